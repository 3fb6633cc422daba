import HTTPTypes
import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

/// Who may do what: keys, clients and rates, on every route there is.
@Suite("Access")
struct AccessTests {
    private func bearer(_ key: Secret) -> HTTPFields { [.authorization: "Bearer \(key.revealed)"] }

    private func send(
        _ gateway: TestGateway, _ endpoint: Endpoint, client: Int?, _ headers: HTTPFields
    ) async throws -> TestGateway.Reply {
        try await gateway.send(EndpointRequest(endpoint: endpoint, client: client), headers)
    }

    private static let answering = EndpointRequest.answering

    @Test(
        "Without a key, or with an unknown one, every route but the open ones is a 401", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func unauthorized(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            _ = try await gateway.memory.createKey(APIKeyDraft(name: "some"))
            for endpoint in Self.answering {
                for headers in [[:], [.apiKey: "mg_wrong"], [.authorization: "Basic abc"]] as [HTTPFields] {
                    let reply = try await send(gateway, endpoint, client: gateway.world.client, headers)
                    if endpoint.tenancy == .open {
                        #expect(reply.status == 200, "\(endpoint.method) \(endpoint.path)")
                    } else {
                        #expect(reply.status == 401, "\(endpoint.method) \(endpoint.path)")
                        #expect(reply.json["code"] == "unauthorized" && reply.headers[.wwwAuthenticate] == "Bearer")
                    }
                }
            }
            #expect(try await gateway.world.execute("SELECT count(*) FROM events") == [["0"]])
        }
    }

    @Test(
        "A key of one client is a 403 on every route that names another, or that belongs to none",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func foreignKey(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let (mine, theirs) = (gateway.world.client, gateway.world.client + 1)
            let key = try await gateway.memory.createKey(APIKeyDraft(name: "mine", clients: [mine])).text
            for endpoint in Self.answering where endpoint.tenancy != .open {
                let reply = try await send(gateway, endpoint, client: theirs, bearer(key))
                #expect(reply.status == 403, "\(endpoint.method) \(endpoint.path)")
                #expect(reply.json["code"] == "forbidden")
            }
            #expect(try await gateway.world.execute("SELECT count(*) FROM events") == [["0"]])
            #expect(try await gateway.world.execute("SELECT count(*) FROM plans") == [["0"]])
        }
    }

    @Test("A key names its only client by itself", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func onlyClient(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let one = try await gateway.memory.createKey(APIKeyDraft(name: "one", clients: [client])).text
            let stored = try await gateway.post("/api/v1/memory/remember", ["content": "tea"], headers: bearer(one))
            #expect(stored.status == 200 && stored.json["client_id"] == .int(Int64(client)))
            let found = try await gateway.send(
                .get, "/api/v1/memory/recall?query=tea", headers: [.apiKey: one.revealed])
            #expect(found.json["result_count"] == 1)
            let event = try await gateway.post(
                "/api/v1/memory/events", ["event_type": "a", "event_source": "b", "payload": [:]], headers: bearer(one))
            #expect(event.json["client_id"] == .int(Int64(client)))
            let batch = try await gateway.post(
                "/api/v1/memory/remember/batch",
                ["memories": [["content": "a"], ["content": "b", "client_id": .int(Int64(client))]]],
                headers: bearer(one))
            #expect(batch.status == 200)
            let two = try await gateway.memory.createKey(APIKeyDraft(name: "two", clients: [client, client + 1])).text
            for path in ["recall?query=tea", "docs/handbook", "search/docs?query=tea"] {
                let reply = try await gateway.send(.get, "/api/v1/memory/\(path)", headers: bearer(two))
                #expect(reply.status == 400 && reply.json["field"] == "client_id", "\(path)")
            }
            let draft: JSON = ["event_type": "a", "event_source": "b", "payload": [:]]
            let unowned = try await gateway.post("/api/v1/memory/events", draft, headers: bearer(two))
            #expect(unowned.status == 400 && unowned.json["field"] == "client_id")
            for path in ["events", "docs", "plans"] {
                let reply = try await gateway.send(.get, "/api/v1/memory/\(path)", headers: bearer(two))
                #expect(reply.status == 200, "\(path)")
            }
        }
    }

    @Test("A key that may only read is a 403 on every route that writes", .timeLimit(.minutes(5)))
    func readOnly() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            var draft = APIKeyDraft(name: "reader")
            draft.canWrite = false
            let key = try await gateway.memory.createKey(draft).text
            for endpoint in Self.answering {
                let reply = try await send(gateway, endpoint, client: gateway.world.client, bearer(key))
                #expect((reply.status == 403) == endpoint.writes, "\(endpoint.method) \(endpoint.path)")
                // What is written by its method is declared so, and what is not, is not.
                let reads = endpoint.method == .get || endpoint.path.hasSuffix("/recall")
                #expect(endpoint.writes != reads, "\(endpoint.method) \(endpoint.path)")
            }
        }
    }

    @Test(
        "A revoked key ends, an expired one too, and a key for nobody's data may be given", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func lifeOfKeys(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let memory = gateway.memory
            func status(_ key: Secret, _ path: String = "events") async throws -> Int {
                try await gateway.send(.get, "/api/v1/memory/\(path)", headers: bearer(key)).status
            }
            #expect(try await gateway.get("/api/v1/memory/events").status == 200)
            let (key, text) = try await memory.createKey(APIKeyDraft(name: "first"))
            #expect(try await status(text) == 200)
            #expect(try await gateway.get("/api/v1/memory/events").status == 401)
            try await memory.revokeKey(key.id)
            #expect(try await gateway.get("/api/v1/memory/events").status == 401)
            var draft = APIKeyDraft(name: "ends", clients: [1])
            draft.sharing = .write
            let second = try await memory.createKey(draft).text
            #expect(try await status(text) == 401)
            #expect(try await status(second, "templates") == 200)
            draft.expiresAt = Timestamp(microseconds: 0)
            #expect(try await status(try await memory.createKey(draft).text) == 401)
            let listed = try await memory.apiKeys()
            #expect(listed.map(\.name) == ["ends", "ends", "first"] && listed.last?.revokedAt != nil)
            let error = await #expect(throws: MemoryError.self) { try await memory.revokeKey(key.id) }
            #expect(error?.code == .notFound)
            // The text of a key is nowhere in the store.
            let stored = try await gateway.world.execute("SELECT name, hint, clients FROM api_keys")
            #expect(!stored.description.contains(text.revealed) && !stored.description.contains(second.revealed))
        }
    }

    @Test("Keys of the settings open everything; without the primary store they still count", .timeLimit(.minutes(5)))
    func fixedKeys() async throws {
        try await TestGateway.with(own: [.postgres]) { configuration in
            configuration.apiKeys = [Secret("0123456789abcdef")]
        } _: { gateway async throws in
            let good: HTTPFields = [.apiKey: "0123456789abcdef"]
            #expect(try await gateway.get("/api/v1/memory/events").status == 401)
            #expect(try await gateway.send(.get, "/api/v1/memory/events", headers: good).status == 200)
            #expect(try await gateway.send(.get, "/metrics", headers: good).status == 200)
            try await gateway.world.perform(.kill, .postgres)
            #expect(try await gateway.get("/api/v1/memory/events").status == 401)
            #expect(try await gateway.send(.get, "/api/v1/memory/events", headers: good).status == 503)
        }
    }

    @Test("The text of a key has a checksum, and says so when it is wrong", .timeLimit(.minutes(5)))
    func keyText() {
        let keys = (0..<200).map { _ in KeyText.make().revealed }
        #expect(Set(keys).count == 200)
        for key in keys {
            #expect(key.hasPrefix("mg_") && key.utf8.count == 52 && KeyText.isWellFormed(key))
            for place in [3, 20, 46, 51] {
                var bytes = Array(key.utf8)
                bytes[place] = bytes[place] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
                #expect(!KeyText.isWellFormed(String(decoding: bytes, as: UTF8.self)))
            }
        }
        for text in ["", "mg_", "mg_é", String(repeating: "0", count: 52)] { #expect(!KeyText.isWellFormed(text)) }
    }

    // MARK: Rates

    @Test(
        "Past its rate a key gets 429 with Retry-After, each key for itself", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func keyRate(_ stores: StoreSet) async throws {
        var configuration = GatewayConfiguration()
        configuration.rates.perKey = RateLimit(perSecond: 0.01, burst: 3)
        try await TestGateway.with(stores, configuration: configuration) { gateway async throws in
            let first = bearer(try await gateway.memory.createKey(APIKeyDraft(name: "a")).text)
            let second = bearer(try await gateway.memory.createKey(APIKeyDraft(name: "b")).text)
            for headers in [first, second] {
                var statuses: [Int] = []
                for _ in 0..<5 {
                    statuses.append(try await gateway.send(.get, "/api/v1/memory/events", headers: headers).status)
                }
                #expect(statuses == [200, 200, 200, 429, 429])
            }
            let refused = try await gateway.send(.get, "/api/v1/memory/events", headers: first)
            #expect(refused.json["code"] == "rate_limited")
            let wait = try #require(refused.headers[.retryAfter].flatMap { Int($0) })
            #expect((90...101).contains(wait))
        }
    }

    @Test("The rate holds, in this process, while Valkey is down", .timeLimit(.minutes(5)))
    func rateWithoutValkey() async throws {
        try await TestGateway.with(own: [.valkey]) { gateway async throws in
            try await gateway.world.perform(.kill, .valkey)
            let limit = RateLimit(perSecond: 0.01, burst: 2)
            var waits: [Bool] = []
            for _ in 0..<4 { waits.append(await gateway.memory.take("someone", limit) != nil) }
            #expect(waits == [false, false, true, true])
        }
    }

    @Test("GCRA lets a burst through, then one call an interval", .timeLimit(.minutes(5)))
    func gcra() {
        let limit = RateLimit(perSecond: 10, burst: 5)
        var arrival: Int64 = 0
        let waits = (0..<6).map { _ in limit.take(&arrival, now: 1_000_000) }
        #expect(waits.prefix(5).allSatisfy { $0 == nil } && waits[5] == .microseconds(100_000))
        #expect(limit.take(&arrival, now: 1_099_999) == .microseconds(1))
        #expect(limit.take(&arrival, now: 1_100_000) == nil)
        #expect(limit.take(&arrival, now: 60_000_000) == nil)
    }

    @Test("Only a trusted proxy's word on the caller's address counts", .timeLimit(.minutes(5)))
    func proxies() throws {
        for text in [
            "10.0.0.0/33", "proxy/8", "foo", "*", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "fd00::/129", "::1/x",
        ] {
            #expect(throws: MemoryError.self, "\(text)") { try TrustedProxies(text) }
        }
        let trusted = try TrustedProxies("10.0.0.0/8, 192.168.1.1, fd00::/8, 127.0.0.1")
        for (connection, forwarded, caller) in [
            ("1.2.3.4", "9.9.9.9", "1.2.3.4"), ("10.1.2.3", "9.9.9.9", "9.9.9.9"), ("10.1.2.3", "", "10.1.2.3"),
            ("10.1.2.3", "6.6.6.6, 9.9.9.9, 192.168.1.1", "9.9.9.9"), ("192.168.1.2", "9.9.9.9", "192.168.1.2"),
            // Junk leaves the last address that was one.
            ("10.1.2.3", "junk", "10.1.2.3"), ("10.1.2.3", "9.9.9.9, junk", "10.1.2.3"),
            ("10.1.2.3", "junk, 192.168.1.1", "192.168.1.1"), ("10.1.2.3", "9.9.9.9,", "10.1.2.3"),
            ("10.1.2.3", "unknown", "10.1.2.3"), ("10.1.2.3", String(repeating: "9", count: 500), "10.1.2.3"),
            ("10.1.2.3", "9.9.9.9:4711", "9.9.9.9"), ("10.1.2.3", "[::ffff:9.9.9.9]:4711", "9.9.9.9"),
            // A socket for both kinds of addresses says IPv4 in the form of IPv6.
            ("::ffff:127.0.0.1", "9.9.9.9", "9.9.9.9"), ("::ffff:10.1.2.3", "9.9.9.9", "9.9.9.9"),
            ("::ffff:1.2.3.4", "9.9.9.9", "1.2.3.4"), ("fd12::1", "9.9.9.9", "9.9.9.9"),
            ("fe80::1", "9.9.9.9", "fe80000000000000:0"),
        ] as [(String, String, String)] {
            let found = trusted.caller(from: connection, forwardedFor: forwarded)
            #expect(found == caller, "\(connection), \(forwarded)")
        }
        #expect(TrustedProxies.none.caller(from: "10.1.2.3", forwardedFor: "9.9.9.9") == "10.1.2.3")
        // Who has an IPv6 address has a network of them.
        let networks = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::7", "2001:db8:1:3::1"].map {
            trusted.caller(from: "10.1.2.3", forwardedFor: $0)
        }
        #expect(networks[0] == networks[1] && networks[1] != networks[2])
        let all = try TrustedProxies("0.0.0.0/0")
        #expect(all.caller(from: "1.2.3.4", forwardedFor: "5.6.7.8") == "5.6.7.8")
        #expect(all.caller(from: "::1", forwardedFor: "5.6.7.8") != "5.6.7.8")
    }

    // MARK: What is shared

    @Test(
        "What belongs to no client is used as far as the key may", .timeLimit(.minutes(5)), arguments: StoreSet.allCases
    )
    func sharing(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            _ = try await gateway.memory.ingest(
                DocumentDraft(id: "policy", owner: .shared, content: "Refunds take a day."))
            for sharing in [Access.Sharing.none, .read, .write] {
                var draft = APIKeyDraft(name: "\(sharing)", clients: [client])
                draft.sharing = sharing
                let (key, text) = try await gateway.memory.createKey(draft)
                #expect(key.sharing == sharing)
                let headers = bearer(text)
                func status(_ method: HTTPRequest.Method, _ path: String, _ body: JSON? = nil) async throws -> Int {
                    try await gateway.send(method, "/api/v1/memory/\(path)", body: body?.encoded, headers: headers)
                        .status
                }
                let (mayRead, mayWrite) = (sharing >= .read, sharing == .write)
                #expect(try await status(.get, "templates") == (mayRead ? 200 : 403))
                #expect(
                    try await status(.put, "templates/daily_reflection", ["content": "x"]) == (mayWrite ? 200 : 403))
                #expect(try await status(.get, "docs/policy") == (mayRead ? 200 : 404))
                #expect(try await status(.get, "docs?shared=true") == (mayRead ? 200 : 403))
                #expect(try await status(.get, "docs?shared=maybe") == 400)
                #expect(try await status(.get, "docs?shared=true&client_id=\(client)") == 400)
                let document: JSON = ["doc_id": .string("d-\(sharing)"), "content": "x", "shared": true]
                #expect(try await status(.post, "docs", document) == (mayWrite ? 200 : 403))
                #expect(try await status(.delete, "docs/d-\(sharing)?shared=true") == (mayWrite ? 204 : 403))
                let event: JSON = ["event_type": "a", "event_source": "b", "payload": [:], "shared": true]
                #expect(try await status(.post, "events", event) == (mayWrite ? 201 : 403))
                // Of its own it writes in any case.
                #expect(try await status(.post, "docs", ["doc_id": "own", "content": "x"]) == 200)
                #expect(try await gateway.memory.document("own", of: .client(client)).clientID == client)
            }
        }
    }

    @Test("What a caller keeps as its own data is not looked into for clients", .timeLimit(.minutes(5)))
    func ownData() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            let key = try await gateway.memory.createKey(APIKeyDraft(name: "a", clients: [1])).text
            for state in [["client_id": "acme-7"], ["client_id": 2]] as [JSON] {
                let reply = try await gateway.send(
                    .put, "/api/v1/memory/sessions/s/state", body: state.encoded, headers: bearer(key))
                #expect(reply.status == 200 && reply.json == state)
            }
        }
    }

    @Test("A number in a query is a number of JSON", .timeLimit(.minutes(5)))
    func numbers() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            for value in ["0x1", "0x1p0", "0X5", "1_0", "nan", "inf", "1%201"] {
                for query in ["client_id=\(value)&query=a", "client_id=1&query=a&k=\(value)"] {
                    #expect(try await gateway.get("/api/v1/memory/recall?\(query)").status == 400, "\(query)")
                }
                #expect(try await gateway.get("/api/v1/memory/clients/\(value)/export").status == 400, "\(value)")
            }
            for value in ["1", "1.0", "1e0"] {
                #expect(try await gateway.get("/api/v1/memory/recall?client_id=\(value)&query=a").status == 200)
            }
        }
    }

    @Test("Refused calls are counted, and logged once a minute for each key", .timeLimit(.minutes(5)))
    func refusals() async throws {
        // A gateway sees to it that metrics are recorded.
        try await TestGateway.with(.embedded) { _ in countRefusals() }
    }

    private func countRefusals() {
        let log = RecordedLog(level: .trace)
        let refusals = Refusals(logger: log.logger)
        let start = ContinuousClock.now
        let (unknown, foreign) = (MemoryError(.unauthorized, "x"), MemoryError(.forbidden, "y"))
        let before = MetricsRegistry.shared.total("memory_gateway_refused_total")
        for second in 0..<59 {
            for address in ["1.1.1.1", "2.2.2.2"] {
                refusals.note(unknown, key: nil, address: address, path: "/p", now: start + .seconds(second))
            }
            refusals.note(foreign, key: "key-1", address: nil, path: "/p", now: start + .seconds(second))
            refusals.note(MemoryError(.notFound, "z"), key: "key-1", address: nil, path: "/p", now: start)
        }
        #expect(log.lines.count == 2)
        refusals.note(foreign, key: "key-1", address: nil, path: "/p", now: start + .seconds(61))
        #expect(log.lines.count == 3 && log.lines.last?.metadata[LogKey.count] == "59")
        #expect(log.lines.last?.metadata[LogKey.key] == "key-1")
        #expect(MetricsRegistry.shared.total("memory_gateway_refused_total") - before >= 178)
    }
}
