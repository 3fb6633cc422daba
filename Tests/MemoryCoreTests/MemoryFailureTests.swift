import MemoryTestSupport
import Synchronization
import Testing

@testable import MemoryCore

/// Stores that are down before, during and after a call.
@Suite("Memory with stores down")
struct MemoryFailureTests {
    private func outboxIsEmpty(_ world: TestWorld) async throws -> Bool {
        try await world.execute("SELECT count(*) FROM memory_outbox") == [["0"]]
    }

    // MARK: Qdrant

    @Test(
        "Without Qdrant a memory is stored, recalled by its words, and indexed when Qdrant is back",
        .timeLimit(.minutes(5)))
    func qdrantDown() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            try await world.withMemory { memory async throws in
                try await memory.remember("before the fall", client: world.client)
                try await world.perform(.kill, .qdrant)
                let receipt = try await memory.remember("painting sunrises", client: world.client)
                #expect(receipt.storedIn == [.postgres, .valkey])
                #expect(receipt.failed == [.qdrant])
                #expect(receipt.warning == "Vector storage failed, will retry in background")
                let request = RecallRequest(query: "Who painted the sunrise?", clientID: world.client)
                for _ in 0..<2 {
                    let answer = try await memory.recall(request)
                    #expect(answer.isDegraded && !answer.isCached)
                    #expect(answer.hits.map(\.record.id) == [receipt.memoryID])
                    #expect(answer.hits.first?.similarity == nil)
                }
                #expect(await memory.health().isUp(.qdrant) == false)
                #expect(await memory.isReady())
                try await world.perform(.start, .qdrant)
                try await world.eventually("the outbox is empty") { try await outboxIsEmpty(world) }
                let answer = try await memory.recall(request)
                #expect(!answer.isDegraded)
                #expect(answer.hits.first?.record.id == receipt.memoryID)
                #expect(answer.hits.first?.similarity != nil)
            }
        }
    }

    @Test("A memory deleted while Qdrant is down is not recalled, and its point goes later", .timeLimit(.minutes(5)))
    func deleteWithoutQdrant() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            try await world.withMemory { memory async throws in
                let receipt = try await memory.remember("to forget", client: world.client)
                try await world.perform(.kill, .qdrant)
                try await memory.delete(receipt.memoryID, client: world.client)
                try await world.perform(.start, .qdrant)
                #expect(try await memory.recall("forget", client: world.client).isEmpty)
                try await world.eventually("the outbox is empty") { try await outboxIsEmpty(world) }
                let query = VectorQuery(
                    clientID: world.client, sparse: .query("forget"), filter: RecallFilter(), limit: 5, now: .now)
                let answer = try await memory.vectors.search([query], in: .events, deadline: .after(.seconds(10)))
                #expect(answer[0].sparse.isEmpty)
            }
        }
    }

    @Test("A gateway that starts without Qdrant creates the collections when it comes", .timeLimit(.minutes(5)))
    func startWithoutQdrant() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            try await world.perform(.kill, .qdrant)
            try await world.withMemory { memory async throws in
                let receipt = try await memory.remember("early bird", client: world.client)
                #expect(receipt.failed == [.qdrant])
                try await world.perform(.start, .qdrant)
                try await world.eventually("the memory is indexed") {
                    let answer = try await memory.recall(RecallRequest(query: "bird", clientID: world.client))
                    return !answer.isDegraded && answer.count == 1
                }
            }
        }
    }

    @Test("Rows of a gateway that died are delivered by another, each once", .timeLimit(.minutes(5)))
    func orphans() async throws {
        try await TestWorld.with { world async throws in
            try await world.execute("INSERT INTO client_profiles (client_id, user_id) VALUES (\(world.client), 'x')")
            try await world.execute(
                """
                WITH e AS (
                    INSERT INTO events (event_type, client_id, payload) SELECT 'memory:fact', \(world.client),
                        jsonb_build_object('content', 'orphan number ' || n) FROM generate_series(1, 150) n RETURNING id)
                INSERT INTO memory_outbox (collection, record_id, client_id) SELECT 'events', id, \(world.client) FROM e
                """)
            try await world.withMemory { memory async throws in
                try await world.withMemory { other async throws in
                    try await world.eventually("the outbox is empty") { try await outboxIsEmpty(world) }
                    var request = RecallRequest(query: "orphan", clientID: world.client, limit: 100)
                    request.mode = .keyword
                    #expect(try await other.recall(request).count == 100)
                    #expect(try await !memory.recall(request).isDegraded)
                }
            }
        }
    }

    // MARK: Valkey

    @Test("Without Valkey everything is served, uncached, and nothing stale when it is back", .timeLimit(.minutes(5)))
    func valkeyDown() async throws {
        try await TestWorld.with(own: [.valkey]) { configuration in
            (configuration.budgets.readCache, configuration.budgets.writeCache) = (
                .milliseconds(50), .milliseconds(100)
            )
        } _: { world async throws in
            try await world.withMemory { memory async throws in
                try await memory.remember("tea at four", client: world.client)
                let request = RecallRequest(query: "tea", clientID: world.client)
                _ = try await memory.recall(request)
                try await world.eventually("the recall is cached") { try await memory.recall(request).isCached }
                try await world.perform(.pause, .valkey)
                let receipt = try await memory.remember("tea at five", client: world.client)
                #expect(receipt.storedIn == [.postgres, .qdrant] && receipt.failed == [.valkey])
                #expect(receipt.warning == "Cache storage failed, will retry in background")
                let uncached = try await memory.recall(request)
                #expect(!uncached.isCached && !uncached.isDegraded && uncached.count == 2)
                // The same server goes on, with the old recall still in it.
                try await world.perform(.resume, .valkey)
                try await world.eventually("the cache serves again") {
                    let answer = try await memory.recall(request)
                    #expect(answer.count == 2)
                    return answer.isCached
                }
                try await world.eventually("the outbox is empty") { try await outboxIsEmpty(world) }
            }
        }
    }

    @Test("Another gateway serves nothing stale after a write whose cache was away", .timeLimit(.minutes(5)))
    func valkeyDownForOne() async throws {
        try await TestWorld.with(own: [.valkey]) { world async throws in
            try await world.withMemory { memory async throws in
                try await memory.remember("tea at four", client: world.client)
                let request = RecallRequest(query: "tea", clientID: world.client)
                _ = try await memory.recall(request)
                // A gateway with a Valkey that is not there writes; the first one's outbox tells the cache.
                var apart = world
                apart.configuration.valkey.port = 1
                try await apart.withMemory { other async throws in
                    let receipt = try await other.remember("tea at five", client: world.client)
                    #expect(receipt.failed == [.valkey])
                }
                try await world.eventually("the first gateway sees both") {
                    try await memory.recall(request).count == 2
                }
            }
        }
    }

    @Test("Garbage under our keys is a miss", .timeLimit(.minutes(5)))
    func garbage() async throws {
        try await TestWorld.with { world async throws in
            try await world.withMemory { memory async throws in
                let receipt = try await memory.remember("tea at four", client: world.client)
                let request = RecallRequest(query: "tea", clientID: world.client)
                let prefix = "\(world.configuration.valkey.keyPrefix):{c\(world.client)}"
                let keys = [
                    "recall:\(request.fingerprint(memory.cache.ranking))", "generation", "memory:\(receipt.memoryID)",
                ].map {
                    "\(prefix):\($0)"
                }
                for value in [
                    [], Array("garbage".utf8),
                    CacheEnvelope.seal(Array("[]".utf8), clientID: world.client + 1, key: keys[0]),
                ] {
                    _ = try await memory.recall(request)
                    let entries = keys.map { ShortTermEntry(key: $0, value: value, timeToLive: .seconds(60)) }
                    try await memory.cache.store.set(entries, deadline: .after(.seconds(10)))
                    let answer = try await memory.recall(request)
                    #expect(!answer.isCached && answer.hits.map(\.record.id) == [receipt.memoryID])
                }
            }
        }
    }

    // MARK: Postgres

    @Test("Without Postgres nothing is stored anywhere, and a cached recall is still served", .timeLimit(.minutes(5)))
    func postgresDown() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withMemory { memory async throws in
                let kept = try await memory.remember("tea at four", client: world.client)
                let request = RecallRequest(query: "tea", clientID: world.client)
                _ = try await memory.recall(request)
                try await world.eventually("the recall is cached") { try await memory.recall(request).isCached }
                try await world.perform(.kill, .postgres)
                for draft in [
                    MemoryDraft(clientID: world.client, content: "lost in the fall"),
                    MemoryDraft(clientID: world.client + 1, content: "lost"),
                ] {
                    let error = await #expect(throws: MemoryError.self) { try await memory.remember(draft) }
                    #expect(error?.code == .unavailable)
                    #expect(error?.outcome == .notStored)
                    #expect(error?.message == "Primary storage unavailable, please retry")
                }
                await #expect(throws: MemoryError.self) {
                    try await memory.remember([MemoryDraft(clientID: world.client, content: "lost")])
                }
                #expect(try await memory.recall(request).isCached)
                #expect(try await memory.memory(kept.memoryID, client: world.client).content == "tea at four")
                // A new question: found by vectors, and every record of it is in the cache.
                #expect(
                    try await memory.recall("at what time is tea?", client: world.client).map(\.record.id) == [
                        kept.memoryID
                    ])
                await #expect(throws: MemoryError.self) {
                    try await memory.memory(kept.memoryID + 1, client: world.client)
                }
                #expect(await !memory.isReady())
                let query = VectorQuery(
                    clientID: world.client, sparse: .query("lost in the fall"), filter: RecallFilter(), limit: 5,
                    now: .now)
                let points = try await memory.vectors.search([query], in: .events, deadline: .after(.seconds(10)))
                #expect(points[0].sparse.isEmpty)
                try await world.perform(.start, .postgres)
                try await world.eventually("it stores again") {
                    (try? await memory.remember("found again", client: world.client)) != nil
                }
                #expect(
                    try await world.execute("SELECT count(*) FROM events WHERE payload ->> 'content' LIKE 'lost%'") == [
                        ["0"]
                    ])
            }
        }
    }

    @Test("A gateway that starts without Postgres opens, and is ready when it comes", .timeLimit(.minutes(5)))
    func startWithoutPostgres() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.perform(.kill, .postgres)
            try await world.withMemory { memory async throws in
                #expect(await !memory.isReady())
                try await world.perform(.start, .postgres)
                try await world.eventually("it is ready") { await memory.isReady() }
                try await memory.remember("x", client: world.client)
            }
        }
    }

    @Test(
        "Postgres killed under load loses nothing that was acknowledged, and says nothing false",
        .timeLimit(.minutes(5)))
    func postgresKilledUnderLoad() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withMemory { memory async throws in
                let acknowledged = Shared<Set<Int64>>([])
                let refused = Shared<[String]>([])
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for writer in 0..<8 {
                        group.addTask {
                            for number in 0..<40 {
                                let content = "w\(writer) n\(number)"
                                do throws(MemoryError) {
                                    let receipt = try await memory.remember(content, client: world.client)
                                    acknowledged.withLock { _ = $0.insert(receipt.memoryID) }
                                } catch {
                                    if error.outcome == .notStored { refused.withLock { $0.append(content) } }
                                    await Task.yield()
                                }
                            }
                        }
                    }
                    group.addTask {
                        try await world.eventually("forty are stored") { acknowledged.value.count >= 40 }
                        try await world.perform(.kill, .postgres)
                        try await world.perform(.start, .postgres)
                    }
                    try await group.waitForAll()
                }
                try await world.eventually("it serves again") { await memory.isReady() }
                let rows = try await world.execute("SELECT id, payload ->> 'content' FROM events")
                let ids = Set(rows.compactMap { $0[0].flatMap { Int64($0) } })
                #expect(acknowledged.withLock { $0 }.isSubset(of: ids))
                let stored = Set(rows.compactMap { $0[1] })
                #expect(stored.isDisjoint(with: refused.withLock { $0 }))
                try await world.eventually("everything is indexed") { try await outboxIsEmpty(world) }
            }
        }
    }

    // MARK: Embeddings

    /// A world whose embedding provider answers as the test says.
    private func withProvider(
        _ answer: @escaping @Sendable (StubServer.Asked) -> StubServer.Answer,
        _ test: @escaping @Sendable (Memory, TestWorld) async throws -> Void
    ) async throws {
        try await StubServer.with(answering: answer) { url, _ in
            try await TestWorld.with(configure: {
                $0.embeddings = EmbeddingsConfiguration(url: url + "/v1", model: "stub")
            }) { world async throws in
                try await world.withMemory { memory async throws in try await test(memory, world) }
            }
        }
    }

    private static func vectors(_ asked: StubServer.Asked) -> StubServer.Answer {
        let count = (try? JSON.parse(Array(asked.body.utf8)))?["input"]?.array?.count ?? 0
        let items = (0..<count).map { #"{"index": \#($0), "embedding": [0.6, 0.8]}"# }.joined(separator: ",")
        return StubServer.Answer(200, #"{"data": [\#(items)]}"#)
    }

    @Test(
        "Without the provider a memory is stored, recall is degraded, and both are whole when it is back",
        .timeLimit(.minutes(5)))
    func providerDown() async throws {
        let isUp = Shared(false)
        try await withProvider({ isUp.value ? Self.vectors($0) : StubServer.Answer(503, "busy") }) { memory, world in
            let receipt = try await memory.remember("tea at four", client: world.client)
            #expect(receipt.failed == [.qdrant])
            let request = RecallRequest(query: "tea", clientID: world.client)
            let degraded = try await memory.recall(request)
            #expect(degraded.isDegraded && degraded.count == 1)
            isUp.value = true
            try await world.eventually("the memory is indexed") {
                let answer = try await memory.recall(request)
                return !answer.isDegraded && answer.hits.first?.similarity != nil
            }
        }
    }

    @Test(
        "A text that the provider always refuses ends as a dead letter, and holds nobody up", .timeLimit(.minutes(5)),
        arguments: [400, 500])
    func deadLetter(_ status: Int) async throws {
        try await withProvider({ $0.body.contains("poison") ? StubServer.Answer(status, "{}") : Self.vectors($0) }) {
            memory, world in
            let poison = try await memory.remember("poison", client: world.client)
            #expect(poison.failed == [.qdrant])
            for number in 0..<5 { try await memory.remember("food \(number)", client: world.client) }
            try await world.eventually("the others are delivered") {
                try await world.execute("SELECT count(*) FROM memory_outbox") == [["1"]]
            }
            // Its wait grows with every try; here nobody waits.
            try await world.eventually("it is given up on") {
                try await world.execute("UPDATE memory_outbox SET due_at = now() WHERE due_at > now() AND attempts > 0")
                return try await world.execute("SELECT state, attempts, last_error FROM memory_outbox")
                    == [["dead", "8", "embeddings unavailable http \(status)"]]
            }
            // Others never noticed.
            for number in 0..<10 {
                let answer = try await memory.recall(RecallRequest(query: "food? \(number)", clientID: world.client))
                #expect(!answer.isDegraded)
            }
            #expect(try await memory.memory(poison.memoryID, client: world.client).content == "poison")
        }
    }

    @Test("A provider that is down altogether makes no dead letters", .timeLimit(.minutes(5)), arguments: [500, 503])
    func noDeadLetters(_ status: Int) async throws {
        let isUp = Shared(false)
        try await withProvider({ isUp.value ? Self.vectors($0) : StubServer.Answer(status, "{}") }) { memory, world in
            for number in 0..<3 { try await memory.remember("food \(number)", client: world.client) }
            let start = try await world.execute("SELECT max(fence) FROM memory_outbox")[0][0].flatMap { Int($0) } ?? 0
            try await world.eventually("it was tried more often than a poisoned text is") {
                try await world.execute("UPDATE memory_outbox SET due_at = now() WHERE due_at > now()")
                let fence = try await world.execute("SELECT min(fence) FROM memory_outbox")[0][0].flatMap { Int($0) }
                return (fence ?? 0) >= start + 9
            }
            let attempts = try await world.execute("SELECT DISTINCT state, attempts FROM memory_outbox")
            #expect(attempts == [["pending", "0"]])
            isUp.value = true
            try await world.eventually("they are delivered") {
                try await world.execute("UPDATE memory_outbox SET due_at = now() WHERE due_at > now()")
                return try await world.execute("SELECT count(*) FROM memory_outbox") == [["0"]]
            }
        }
    }

    @Test("A model with too many dimensions is known at the start, with both numbers", .timeLimit(.minutes(5)))
    func tooManyDimensions() async throws {
        let body = "[\(Array(repeating: "1", count: 3072).joined(separator: ","))]"
        let answer = StubServer.Answer(200, #"{"data": [{"index": 0, "embedding": \#(body)}]}"#)
        try await StubServer.with(answering: { _ in answer }) { url, _ in
            let settings = EmbeddingsConfiguration(url: url, model: "stub")
            try await TestWorld.with(configure: { $0.embeddings = settings }) { world async throws in
                let error = await #expect(throws: MemoryError.self) { try await world.withMemory { _ in } }
                #expect(error?.code == .configuration)
                #expect(error?.message.contains("3072") == true && error?.message.contains("1536") == true)
            }
        }
    }
}
