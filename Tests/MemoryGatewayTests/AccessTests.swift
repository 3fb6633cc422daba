import HTTPTypes
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
        #expect(throws: MemoryError.self) { try TrustedProxies("10.0.0.0/33") }
        #expect(throws: MemoryError.self) { try TrustedProxies("proxy/8") }
        let trusted = try TrustedProxies("10.0.0.0/8, 192.168.1.1")
        for (connection, forwarded, caller) in [
            ("1.2.3.4", "9.9.9.9", "1.2.3.4"), ("10.1.2.3", "9.9.9.9", "9.9.9.9"), ("10.1.2.3", "", "10.1.2.3"),
            ("10.1.2.3", "6.6.6.6, 9.9.9.9, 192.168.1.1", "9.9.9.9"), ("192.168.1.2", "9.9.9.9", "192.168.1.2"),
        ] {
            #expect(trusted.caller(from: connection, forwardedFor: forwarded) == caller)
            #expect(TrustedProxies.none.caller(from: connection, forwardedFor: forwarded) == connection)
        }
    }
}
