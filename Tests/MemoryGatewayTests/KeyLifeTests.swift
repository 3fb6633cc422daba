import HTTPTypes
import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

/// Keys never fail open: the end of the last one closes the gateway to everyone.
@Suite("Life of keys")
struct KeyLifeTests {
    private func bearer(_ key: Secret) -> HTTPFields { [.authorization: "Bearer \(key.revealed)"] }

    @Test(
        "After the last key was revoked, every call is a 401", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func lastKeyRevoked(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            #expect(try await gateway.get("/api/v1/memory/events").status == 200)
            let (key, text) = try await gateway.memory.createKey(APIKeyDraft(name: "only", clients: [1]))
            try await gateway.memory.revokeKey(key.id)
            for headers in [[:], bearer(text), [.apiKey: "mg_wrong"]] as [HTTPFields] {
                for endpoint in EndpointRequest.answering where endpoint.tenancy != .open {
                    let reply = try await gateway.send(EndpointRequest(endpoint: endpoint, client: 1), headers)
                    #expect(reply.status == 401, "\(endpoint.method) \(endpoint.path)")
                }
            }
            #expect(try await !gateway.memory.isOpen())
            #expect(try await gateway.world.execute("SELECT count(*) FROM events") == [["0"]])
            // A new key is the way back in.
            let next = try await gateway.memory.createKey(APIKeyDraft(name: "next")).text
            #expect(try await gateway.send(.get, "/api/v1/memory/events", headers: bearer(next)).status == 200)
        }
    }

    @Test("A key that has expired closes the gateway too", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func onlyExpired(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            var draft = APIKeyDraft(name: "ended")
            draft.expiresAt = Timestamp(microseconds: 0)
            let text = try await gateway.memory.createKey(draft).text
            #expect(try await gateway.get("/api/v1/memory/events").status == 401)
            let reply = try await gateway.send(.get, "/api/v1/memory/events", headers: bearer(text))
            #expect(reply.status == 401)
            // So does a second gateway, which never saw it live.
            let second = TestGateway(memory: gateway.memory, world: gateway.world)
            #expect(try await second.get("/api/v1/memory/events").status == 401)
        }
    }

    // MARK: The key ring

    /// A store that is away when the test says so.
    private struct SwitchedDatabase: SQLDatabase {
        let base: any SQLDatabase
        let isAway = Shared(false)
        var name: MemoryError.Store { base.name }
        var parallelWrites: Int { base.parallelWrites }

        func read<Value: Sendable>(
            deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
        ) async throws(MemoryError) -> Value {
            guard !isAway.value else { throw .unavailable(name, "away") }
            return try await base.read(deadline: deadline, body)
        }

        func write<Value: Sendable>(
            deadline: Deadline, durable: Bool,
            _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
        ) async throws(MemoryError) -> Value {
            try await base.write(deadline: deadline, durable: durable, body)
        }

        func close() async {}
    }

    private func code(_ ring: KeyRing, _ key: Secret?) async -> MemoryError.Code? {
        do throws(MemoryError) {
            _ = try await ring.access(key?.revealed)
            return nil
        } catch {
            return error.code
        }
    }

    @Test(
        "A process that has seen a key is never open again, whatever becomes of the rows", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func restoredAway(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let (log, surroundings) = (RecordedLog(level: .trace), TestSurroundings(seed: 1))
            let ring = KeyRing(
                database: gateway.memory.database, keys: [], logger: log.logger, surroundings: surroundings)
            #expect(await code(ring, nil) == nil)
            let text = try await gateway.memory.createKey(APIKeyDraft(name: "a")).text
            surroundings.advance(by: .seconds(11))
            #expect(await code(ring, nil) == .unauthorized)
            #expect(await code(ring, text) == nil)
            #expect(log.lines.isEmpty)
            try await gateway.world.execute("DELETE FROM api_keys")
            for _ in 0..<5 {
                surroundings.advance(by: .seconds(11))
                #expect(await code(ring, nil) == .unauthorized)
                #expect(await code(ring, text) == .unauthorized)
                #expect(try await !ring.isOpen())
            }
            #expect(log.lines.map(\.level) == [.warning], "said once")
            // A new key lets in, and its end is said again.
            let (next, nextText) = try await gateway.memory.createKey(APIKeyDraft(name: "b"))
            surroundings.advance(by: .seconds(11))
            #expect(await code(ring, nextText) == nil)
            #expect(try await gateway.memory.revokeKey(next.id) == 0)
            surroundings.advance(by: .seconds(11))
            #expect(await code(ring, nextText) == .unauthorized)
            #expect(log.lines.count == 2)
        }
    }

    @Test("A key that ends while the store is away ends all the same, and opens nothing", .timeLimit(.minutes(5)))
    func expiresWhileAway() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            let (log, surroundings) = (RecordedLog(level: .trace), TestSurroundings(seed: 1))
            let database = SwitchedDatabase(base: gateway.memory.database)
            let ring = KeyRing(database: database, keys: [], logger: log.logger, surroundings: surroundings)
            var draft = APIKeyDraft(name: "a")
            draft.expiresAt = surroundings.now.advanced(by: .seconds(30))
            let text = try await gateway.memory.createKey(draft).text
            #expect(await code(ring, text) == nil)
            database.isAway.value = true
            surroundings.advance(by: .seconds(20))
            #expect(await code(ring, text) == nil)
            surroundings.advance(by: .seconds(11))
            #expect(await code(ring, nil) == .unauthorized)
            #expect(await code(ring, Secret("something")) == .unauthorized)
            #expect(log.lines.count == 1)
            // Before the store was read even once nobody knows; keys of the settings do not need it.
            let fixed = Secret("0123456789abcdef")
            for keys in [[], [fixed]] {
                let new = KeyRing(database: database, keys: keys, logger: log.logger, surroundings: surroundings)
                #expect(await code(new, nil) == (keys.isEmpty ? .unavailable : .unauthorized))
                #expect(await code(new, fixed) == (keys.isEmpty ? .unavailable : nil))
            }
        }
    }

    // MARK: Streams

    private static let stream = "/api/v1/memory/events/stream"

    @Test(
        "An event stream ends with its key, revoked or expired, and with the first key of an open gateway",
        .timeLimit(.minutes(5)), arguments: ["revoked", "expired", "open"])
    func streamEnds(_ how: String) async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            var draft = APIKeyDraft(name: "a")
            if how == "expired" { draft.expiresAt = Timestamp.now.advanced(by: .seconds(2)) }
            let key = how == "open" ? nil : try await gateway.memory.createKey(draft)
            let headers = key.map { bearer($0.text) } ?? [:]
            async let reply = gateway.send(.get, Self.stream, headers: headers)
            try await gateway.world.eventually("it follows") { gateway.memory.signals.followers == 1 }
            if let key, how == "revoked" { try await gateway.memory.revokeKey(key.key.id) }
            if how == "open" { _ = try await gateway.memory.createKey(APIKeyDraft(name: "first")) }
            let text = try await reply.text
            #expect(text.contains("event: error") && text.contains("unauthorized"))
            try await gateway.world.eventually("its place is free") { gateway.memory.signals.followers == 0 }
        }
    }

    @Test("One key holds so many streams, and leaves the other places to others", .timeLimit(.minutes(5)))
    func streamPlaces() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            let (key, text) = try await gateway.memory.createKey(APIKeyDraft(name: "greedy"))
            let other = try await gateway.memory.createKey(APIKeyDraft(name: "other")).text
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<StreamPlaces.perKey {
                    group.addTask { _ = try await gateway.send(.get, Self.stream, headers: bearer(text)) }
                }
                try await gateway.world.eventually("all follow") {
                    gateway.memory.signals.followers == StreamPlaces.perKey
                }
                let refused = try await gateway.send(.get, Self.stream, headers: bearer(text))
                #expect(refused.status == 429 && refused.headers[.retryAfter] != nil)
                let served = try await gateway.send(.get, Self.stream, headers: bearer(other), readsBody: false)
                #expect(served.status == 200)
                try await gateway.memory.revokeKey(key.id)
                try await group.waitForAll()
            }
        }
        let places = StreamPlaces()
        var held = try (0..<StreamPlaces.perKey).map { _ in try places.take("a") }
        #expect(throws: MemoryError.self) { try places.take("a") }
        _ = try places.take("b")
        held.removeLast()
        held.append(try places.take("a"))
        #expect(throws: MemoryError.self) { try places.take("a") }
        #expect(held.count == StreamPlaces.perKey)
    }
}
