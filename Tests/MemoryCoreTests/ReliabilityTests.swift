import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore

/// What keeps a memory whole when stores lose data, lie or are slow. Rows of the fault catalogue in the names.
@Suite("Reliability")
struct ReliabilityTests {
    /// From now: a test may have waited for its world since it was made.
    private var soon: Deadline { .after(.seconds(60)) }

    // MARK: The reconciler

    @Test(
        "21: points that were lost come back, points of nothing go, points of others stay", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func reconciler(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores, own: stores == .servers ? [.qdrant] : []) { world async throws in
            try await world.withMemory { memory async throws in
                var ids: [Int64] = []
                for number in 0..<5 {
                    ids.append(try await memory.remember("tea \(number)", client: world.client).memoryID)
                }
                _ = try await memory.ingest(DocumentDraft(id: "d", owner: .client(world.client), content: "tea"))
                let reflection = try await memory.reflect(
                    "tea", client: world.client, on: .init(mode: .daily, date: "2026-05-07"))
                try await world.eventually("nothing is owed") {
                    try await memory.outboxCounts().pending == 0
                }
                #expect(try await memory.reconciler.reconcile() == Reconciler.Finding())
                #expect(try await memory.reconcile() == (0, 0))
                // Two memories, the reflection and the chunk are forgotten by the vector store; one stands for nothing.
                try await memory.vectors.delete(Array(ids.prefix(2)), in: .events, deadline: soon)
                try await memory.vectors.delete([reflection.memoryID], in: .dailyThreads, deadline: soon)
                let chunks = try await memory.vectors.ownIDs(in: .docChunks, after: nil, limit: 10, deadline: soon)
                try await memory.vectors.delete(chunks, in: .docChunks, deadline: soon)
                let ghost = MemoryRecord(
                    MemoryDraft(clientID: world.client, content: "ghost"), id: 2_000_000_000, createdAt: .now)
                let vector = try await LexicalEmbedder().embed(["ghost"], deadline: soon)[0].get()
                try await memory.vectors.upsert(
                    [VectorPoint(subject: .record(ghost), dense: vector, sparse: .document("ghost"), model: "m")],
                    in: .events, deadline: soon)
                #expect(try await memory.reconciler.reconcile() == Reconciler.Finding(missing: 4, foreign: 1))
                try await world.eventually("all are back") {
                    let found = try await memory.vectors.existing(ids, in: .events, deadline: soon).count
                    let owed = try await memory.outboxCounts().pending
                    return found == 5 && owed == 0
                }
                #expect(try await memory.reconcile() == (0, 0))
                #expect(try await memory.recall("tea", client: world.client, limit: 10).count == 6)
            }
        }
    }

    @Test("18: after a collection was deleted everything of it is made again", .timeLimit(.minutes(5)))
    func collectionLost() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            try await world.withMemory { memory async throws in
                for number in 0..<20 { _ = try await memory.remember("tea \(number)", client: world.client) }
                try await world.eventually("nothing is owed") { try await memory.outboxCounts().pending == 0 }
                let client = try QdrantClient(world.configuration.qdrant)
                _ = try await client.send(.delete, "/collections/events", deadline: soon)
                await client.close()
                #expect(try await memory.remember("one more", client: world.client).failed.isEmpty)
                try await world.eventually("nothing is owed") { try await memory.outboxCounts().pending == 0 }
                #expect(try await memory.reconciler.reconcile().missing == 20)
                try await world.eventually("all are back") {
                    try await memory.vectors.count(in: .events, deadline: soon) == 21
                }
            }
        }
    }

    @Test("Points of another program are nobody's to remove", .timeLimit(.minutes(5)))
    func foreignPrograms() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            try await world.withMemory { memory async throws in
                let client = try QdrantClient(world.configuration.qdrant)
                let vector = JSON.array((0..<1536).map { .double($0 == 0 ? 1 : 0) })
                let points: JSON = [
                    "points": [
                        ["id": 7, "vector": ["": vector], "payload": ["client_id": 1]],
                        ["id": 9, "vector": ["": vector], "payload": ["client_id": 1]],
                    ]
                ]
                try await client.update(.put, "/collections/events/points", body: points.encoded, deadline: soon)
                #expect(try await memory.reconcile() == (0, 0))
                #expect(try await memory.vectors.count(in: .events, deadline: soon) == 0)
                #expect(try await memory.vectors.existing([7, 9], in: .events, deadline: soon) == [7, 9])
                await client.close()
            }
        }
    }

    // MARK: The outbox

    @Test(
        "Dead letters are listed, and tried again when somebody asks", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func deadLetters(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            try await world.withMemory { memory async throws in
                let id = try await memory.remember("tea", client: world.client).memoryID
                try await world.eventually("nothing is owed") { try await memory.outboxCounts().pending == 0 }
                try await world.execute(
                    """
                    INSERT INTO memory_outbox (collection, record_id, client_id, state, attempts, last_error)
                    VALUES ('events', \(id), \(world.client), 'dead', 8, 'embeddings bad_reply')
                    """)
                let letters = try await memory.deadLetters()
                #expect(letters.map(\.recordID) == [id] && letters.first?.lastError == "embeddings bad_reply")
                #expect(try await memory.outboxCounts() == (0, 1))
                #expect(try await memory.retryDeadLetters() == 1)
                try await world.eventually("it is delivered") { try await memory.outboxCounts() == (0, 0) }
            }
        }
    }

    @Test(
        "Clients have turns: one with thousands of rows, older and newer, does not make the others wait",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func fairness(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            // A first opening makes the tables of an embedded world.
            try await world.withMemory { _ in }
            try await world.withMemory(failingBy: FaultPlan()) { memory async throws in
                let age = stores == .servers ? "now() - i * interval '1 second'" : "i"
                try await world.execute(
                    """
                    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                    INSERT INTO memory_outbox (collection, record_id, client_id, due_at)
                    SELECT 'events', 1000000 + i, CASE WHEN i % 1000 = 0 THEN 1 + i / 1000 ELSE 1 END, \(age) FROM n
                    """)
                var seen: Set<Int> = []
                let turn = Shared(0)
                for _ in 0..<3 {
                    let leases = try await memory.database.write(deadline: soon) { session throws(MemoryError) in
                        var next = turn.value
                        let outbox = OutboxRepository(session: session)
                        let leases = try outbox.claim(limit: 64, lease: .seconds(60), turn: &next)
                        turn.value = next
                        return leases
                    }
                    #expect(leases.count == 64 && Set(leases.map(\.key.id)).count == 64)
                    seen.formUnion(leases.map(\.key.clientID))
                }
                #expect(seen == Set(1...21))
            }
        }
    }

    @Test(
        "38: whoever delivers with an old lease clears nothing, and what they may have overwritten is made again",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func fence(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            try await world.withMemory { memory async throws in
                let key = RecordKey(id: 1_999_999_999, clientID: world.client)
                func rows(_ body: @escaping @Sendable (OutboxRepository) throws(MemoryError) -> Void) async throws
                    -> Int
                {
                    try await memory.database.write(deadline: soon) { session throws(MemoryError) in
                        try body(OutboxRepository(session: session))
                        let count = try session.query(
                            "SELECT count(*) FROM memory_outbox WHERE record_id = $1", [.int(key.id)])
                        // The worker must not see it between two steps of the test.
                        try session.execute(
                            "UPDATE memory_outbox SET state = 'dead' WHERE record_id = $1", [.int(key.id)])
                        return Int(clamping: try count.first?.int(0) ?? 0)
                    }
                }
                let leases = Shared<[OutboxRepository.Lease]>([])
                for _ in 0..<2 {
                    let count = try await rows { outbox throws(MemoryError) in
                        let lease = try outbox.enqueue(key, in: .events, lease: .seconds(60))
                        leases.withLock { $0.append(lease) }
                    }
                    #expect(count == 1)
                }
                let (old, new) = (leases.value[0], leases.value[1])
                #expect(new.fence != old.fence)
                #expect(try await rows { outbox throws(MemoryError) in try outbox.complete([old]) } == 1)
                let last = Shared<OutboxRepository.Lease?>(nil)
                _ = try await rows { outbox throws(MemoryError) in
                    let lease = try outbox.enqueue(key, in: .events, lease: .seconds(60))
                    last.value = lease
                }
                let current = try #require(last.value)
                // Both in one go: the old one may have come last.
                #expect(try await rows { outbox throws(MemoryError) in try outbox.complete([old, current]) } == 1)
                let final = try await rows { outbox throws(MemoryError) in
                    try outbox.complete([try outbox.enqueue(key, in: .events, lease: .seconds(60))])
                }
                #expect(final == 0)
            }
        }
    }

    // MARK: Commits

    @Test("2: a commit whose answer was cut is reported as stored, because the server says so", .timeLimit(.minutes(5)))
    func commitAnswerCut() async throws {
        try await withFault("cut-answer:COMMIT") { database async throws in
            let ids = try await database.write(deadline: soon) { session throws(MemoryError) in
                try session.execute("INSERT INTO client_profiles (client_id, user_id) VALUES (1, 'x')", [])
                return try session.query("SELECT client_id FROM client_profiles", []).count
            }
            #expect(ids == 1)
        }
    }

    @Test("2: a commit that never arrived is tried again, and stored once", .timeLimit(.minutes(5)))
    func commitCut() async throws {
        try await withFault("cut-request:COMMIT") { database async throws in
            // The server says that it was rolled back, so it is tried again.
            _ = try await database.write(deadline: soon) { session throws(MemoryError) in
                try session.execute("INSERT INTO client_profiles (client_id, user_id) VALUES (1, 'x')", [])
            }
        }
    }

    /// Writes to a database of one connection behind a proxy with a fault; afterwards one client must be stored.
    private func withFault(_ fault: String, _ write: @Sendable (PostgresDatabase) async throws -> Void) async throws {
        try await TestWorld.with { world async throws in
            try await FaultProxy.with(target: world.configuration.postgres.port, fault: fault) { port in
                var configuration = world.configuration.postgres
                configuration.port = port
                configuration.connections = 1
                let database = try PostgresDatabase(configuration)
                try await write(database)
                await database.close()
            }
            #expect(try await world.execute("SELECT count(*) FROM client_profiles") == [["1"]])
        }
    }

    @Test(
        "22, 33: a vector store that answers garbage, or nothing, makes a degraded recall, not a wrong one",
        .timeLimit(.minutes(5)), arguments: ["garbage", "blackhole"])
    func hostileQdrant(_ fault: String) async throws {
        try await TestWorld.with { world async throws in
            let target = try #require(world.configuration.qdrant.url.split(separator: ":").last.flatMap { Int($0) })
            try await world.withMemory { memory async throws in
                _ = try await memory.remember("tea at four", client: world.client)
            }
            try await FaultProxy.with(target: target, fault: fault) { port in
                var other = world
                other.configuration.qdrant.url = "http://127.0.0.1:\(port)"
                other.configuration.budgets.searchVectors = .milliseconds(200)
                other.configuration.setsUpStores = false
                try await other.withMemory { memory async throws in
                    for _ in 0..<8 {
                        let answer = try await memory.recall(
                            RecallRequest(query: "when is tea", clientID: world.client))
                        #expect(answer.isDegraded && answer.hits.map(\.record.content) == ["tea at four"])
                    }
                }
            }
        }
    }

    @Test(
        "17: vectors that are late still answer a recall, though full text was searched beside them",
        .timeLimit(.minutes(5)))
    func hedge() async throws {
        try await TestWorld.with { world async throws in
            let target = try #require(world.configuration.qdrant.url.split(separator: ":").last.flatMap { Int($0) })
            try await FaultProxy.with(target: target, fault: "delay:50") { port in
                var slow = world
                slow.configuration.qdrant.url = "http://127.0.0.1:\(port)"
                slow.configuration.budgets.hedge = .milliseconds(1)
                try await slow.withMemory { memory async throws in
                    _ = try await memory.remember("tea at four", client: world.client)
                    let answer = try await memory.recall(
                        RecallRequest(query: "when is tea", clientID: world.client))
                    #expect(!answer.isDegraded && answer.hits.map(\.record.content) == ["tea at four"])
                    #expect(answer.hits.first?.similarity != nil)
                }
            }
        }
    }

    // MARK: Breakers

    @Test(
        "A breaker opens after failures in a row, lets one call through at a time, and closes when it succeeds",
        .timeLimit(.minutes(5)))
    func breaker() async throws {
        let surroundings = TestSurroundings(seed: 1)
        let breaker = CircuitBreaker(.qdrant, surroundings: surroundings)
        let calls = Shared(0)
        let isUp = Shared(false)
        func call() async -> MemoryError? {
            do throws(MemoryError) {
                try await breaker.run { () throws(MemoryError) in
                    calls.withLock { $0 += 1 }
                    if !isUp.value { throw .unavailable(.qdrant, "down") }
                }
                return nil
            } catch {
                return error
            }
        }
        // However many fail at one moment: they may have shared a connection.
        for _ in 0..<20 { #expect(await call()?.driverCode == nil) }
        surroundings.advance(by: .milliseconds(300))
        #expect(await call()?.driverCode == nil)
        #expect(await call()?.driverCode == CircuitBreaker.isOpen)
        #expect(calls.value == 21)
        surroundings.advance(by: .seconds(1))
        #expect(await call()?.driverCode == nil)
        #expect(await call()?.driverCode == CircuitBreaker.isOpen, "one at a time is let through")
        isUp.value = true
        surroundings.advance(by: .seconds(1))
        for _ in 0..<10 { #expect(await call() == nil) }
        #expect(calls.value == 32)
    }

    @Test("What a caller got wrong opens no breaker", .timeLimit(.minutes(5)))
    func breakerInput() async throws {
        let breaker = CircuitBreaker(.postgres)
        for _ in 0..<20 {
            let error = await #expect(throws: MemoryError.self) {
                try await breaker.run { () throws(MemoryError) in throw MemoryError.invalid("wrong") }
            }
            #expect(error?.code == .invalidRequest)
        }
    }

    @Test(
        "4: a frozen Postgres is answered at once after a few deadlines, and served again when it goes on",
        .timeLimit(.minutes(5)))
    func frozenPostgres() async throws {
        try await TestWorld.with(own: [.postgres]) { configuration in
            configuration.budgets.recall = .milliseconds(300)
        } _: { world async throws in
            try await world.withMemory { memory async throws in
                _ = try await memory.remember("tea", client: world.client)
                try await world.perform(.pause, .postgres)
                var codes: [String?] = []
                for _ in 0..<12 {
                    do throws(MemoryError) {
                        _ = try await memory.events(EventFilter(of: .anyone))
                    } catch {
                        codes.append(error.driverCode)
                    }
                }
                #expect(codes.count == 12 && codes.suffix(5).contains(CircuitBreaker.isOpen))
                try await world.perform(.resume, .postgres)
                try await world.eventually("it serves again") {
                    (try? await memory.events(EventFilter(of: .anyone)).items.count) == 1
                }
            }
        }
    }

    // MARK: Durability

    @Test("A primary store that does not keep its promise is named", .timeLimit(.minutes(5)))
    func durability() async throws {
        try await TestWorld.with { world async throws in
            try await world.withMemory { memory async throws in
                await memory.checkDurability()
                #expect(memory.warnings == [])
            }
            try await world.execute(
                "ALTER DATABASE \(world.configuration.postgres.database) SET synchronous_commit = off")
            try await world.withMemory { memory async throws in
                await memory.checkDurability()
                #expect(memory.warnings == ["postgres: synchronous_commit is off"])
            }
        }
    }

    @Test("JSON is scanned as it is parsed, and broken texts are refused", .timeLimit(.minutes(5)))
    func scanner() throws {
        let reply = #"""
            {"usage": {"a": [1, {"b": "}]"}]}, "result": [{"points": [
              {"id": 1, "version": 3, "score": 0.8125, "payload": {"session": "a\"b", "x": [[]], "speaker": "ada", "occurred_at": "2026-05-07T00:00:00Z"}},
              {"score": -1.5e-3, "id": 9007199254740993, "payload": null}]}, {"points": []}], "time": 0.1}
            """#
        let broken = reply.replacing("\"payload\": null", with: "\"payload\": {}")
        let lists = try QdrantRequests.candidates(Array(broken.utf8))
        #expect(lists.map(\.count) == [2, 0])
        #expect(lists[0][0].session == "a\"b" && lists[0][0].speaker == "ada" && lists[0][0].score == 0.8125)
        #expect(lists[0][1].id == 9_007_199_254_740_993 && lists[0][1].score == -0.0015)
        #expect(lists[0][0].moment == Timestamp("2026-05-07"))
        var generator = SeededGenerator(seed: 7)
        let bytes = Array(broken.utf8)
        for length in 0..<bytes.count {
            // Whatever is cut off or changed: an answer or an error, never a trap.
            _ = try? QdrantRequests.candidates(Array(bytes[..<length]))
            var changed = bytes
            changed[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            _ = try? QdrantRequests.candidates(changed)
        }
        for text in [
            "", "[]", "{\"result\": [{}]}", "{\"result\": [{\"points\": [{\"id\": \"x\", \"score\": 1}]}]}",
            "{\"result\": [{\"points\": [{\"id\": 1, \"score\": 1e999}]}]}",
        ] {
            #expect(throws: MemoryError.self) { try QdrantRequests.candidates(Array(text.utf8)) }
        }
    }
}

/// What the gateway tells others on Valkey, and what it hears.
@Suite("Event bus")
struct EventBusTests {
    @Test(
        "What is stored is published, of memories without what they say; what is heard is stored once",
        .timeLimit(.minutes(5)))
    func bus() async throws {
        try await TestWorld.with(configure: { $0.followedChannels = ["bus-test:tasks"] }) { world async throws in
            let listener = try ValkeySubscriber(
                world.configuration.valkey, channels: ["events:task.done", "events:memory:fact"],
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            let heard = Shared<[JSON]>([])
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for await message in listener.messages {
                        heard.withLock { $0.append((try? JSON.parse(message.payload)) ?? .null) }
                    }
                }
                // Two gateways hear the same.
                try await world.withMemory { first async throws in
                    try await world.withMemory { second async throws in
                        try await world.eventually("both listen, and a message becomes one event") {
                            let message: JSON = [
                                "event": "task.created", "data": ["id": 7],
                                "nonce": .int(Int64.random(in: 0..<1_000_000_000)),
                            ]
                            await first.cache.publish([
                                ShortTermPublication(channel: "bus-test:tasks", message: message.encoded)
                            ])
                            return try await !first.events(EventFilter(of: .anyone)).items.isEmpty
                        }
                        let count = try await second.events(EventFilter(of: .anyone)).items.count
                        let event = try #require(try await second.events(EventFilter(of: .anyone)).items.first)
                        #expect(event.type == "task.created" && event.source == "bus-test:tasks")
                        #expect(event.payload == ["id": 7])
                        let same: JSON = ["type": "task.updated", "once": true]
                        for _ in 0..<3 {
                            await second.cache.publish([
                                ShortTermPublication(channel: "bus-test:tasks", message: same.encoded)
                            ])
                        }
                        try await world.eventually("it is stored") {
                            try await second.events(EventFilter(of: .anyone)).items.contains {
                                $0.type == "task.updated"
                            }
                        }
                        try await world.eventually("what is stored is heard") {
                            _ = try await first.log(
                                EventDraft(type: "task.done", source: "test", owner: .shared, payload: ["a": 1]))
                            _ = try await second.remember("a secret", client: world.client)
                            return Set(heard.value.compactMap { $0["event_type"]?.string }).count == 2
                        }
                        let updates = try await second.events(EventFilter(of: .anyone)).items.filter {
                            $0.type == "task.updated"
                        }
                        #expect(updates.count == 1 && count >= 1)
                    }
                }
                listener.close()
            }
            #expect(heard.value.contains { $0["payload"] == ["a": 1] })
            #expect(heard.value.allSatisfy { !String(decoding: $0.encoded, as: UTF8.self).contains("secret") })
        }
    }

    @Test("Whatever is published becomes an event, or nothing; never our own again", .timeLimit(.minutes(5)))
    func drafts() {
        func draft(_ text: String) -> EventDraft? {
            Memory.draft(ValkeySubscriber.Message(channel: "c", payload: Array(text.utf8)))
        }
        #expect(draft("plain text")?.payload == ["text": "plain text"] && draft("plain")?.type == "c")
        #expect(draft(#"{"type": "t", "payload": {"a": 1}, "client_id": 3}"#)?.owner == .client(3))
        #expect(draft(#"{"a": 1}"#)?.payload == ["a": 1])
        #expect(draft(#"{"published_by": "memory-gateway", "event_type": "t"}"#) == nil)
        #expect(draft(#"{"type": "memory:fact"}"#) == nil)
        #expect(draft(#"{"type": "t", "client_id": -1}"#) == nil)
    }
}
