import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Qdrant")
struct QdrantTests {
    private var soon: Deadline { .after(.seconds(20)) }

    private func withStore(_ world: TestWorld, _ test: (QdrantStore, QdrantClient) async throws -> Void) async throws {
        let store = try QdrantStore(world.configuration.qdrant)
        let client = try QdrantClient(world.configuration.qdrant)
        try await test(store, client)
        await store.close()
        await client.close()
    }

    /// A point at an angle: the cosine of two is the cosine of their difference.
    private func point(_ id: Int64, client: Int, angle: Float, _ content: String = "x", type: String = "fact")
        -> VectorPoint
    {
        let record = MemoryRecord(
            MemoryDraft(clientID: client, content: content, type: type), id: id,
            createdAt: Timestamp(microseconds: 1_700_000_000_000_000))
        return VectorPoint(
            subject: .record(record), dense: Self.direction(angle), sparse: .document(content), model: "test")
    }

    private static func direction(_ angle: Float) -> [Float] {
        // The Taylor series is exact enough here, and saves an import.
        let cosine = 1 - angle * angle / 2 + angle * angle * angle * angle / 24
        return [cosine, (max(0, 1 - cosine * cosine)).squareRoot()] + [Float](repeating: 0, count: 1534)
    }

    private func query(_ client: Int, angle: Float? = 0, words: String? = nil, _ filter: RecallFilter = RecallFilter())
        -> VectorQuery
    {
        VectorQuery(
            clientID: client, dense: angle.map(Self.direction), sparse: words.map(SparseVector.query), filter: filter,
            limit: 10, now: .now)
    }

    @Test("The nearest of a client come first, with their cosines, and nobody else's", .timeLimit(.minutes(5)))
    func search() async throws {
        try await TestWorld.with { world async throws in
            try await withStore(world) { store, _ async throws in
                let (mine, other) = (world.client, world.client + 1)
                let base = Int64(world.client)
                try await store.upsert(
                    [
                        point(base + 1, client: mine, angle: 0.1), point(base + 2, client: mine, angle: 0.5),
                        point(base + 3, client: other, angle: 0),
                    ], in: .events, deadline: soon)
                let answers = try await store.search(
                    [query(mine), query(other), query(mine + 2)], in: .events, deadline: soon)
                #expect(answers.map { $0.dense.map(\.id) } == [[base + 1, base + 2], [base + 3], []])
                #expect(abs(answers[0].dense[0].score - 0.995) < 1e-3)
            }
        }
    }

    @Test("Words find what has them, by BM25 among the client's own", .timeLimit(.minutes(5)))
    func sparse() async throws {
        try await TestWorld.with { world async throws in
            try await withStore(world) { store, _ async throws in
                let base = Int64(world.client)
                let texts = [
                    "painting a sunrise", "painting the house", "a long walk", "painting painting sunrise sunrise",
                ]
                let points = texts.enumerated().map { index, text in
                    point(base + Int64(index), client: world.client, angle: 1, text)
                }
                try await store.upsert(points, in: .events, deadline: soon)
                let found = try await store.search(
                    [query(world.client, angle: nil, words: "Who painted the sunrise?")], in: .events, deadline: soon)[
                        0]
                #expect(found.dense.isEmpty)
                #expect(found.sparse.map(\.id) == [base + 3, base, base + 1])
            }
        }
    }

    @Test("The same point again changes nothing; a deleted one is gone, twice", .timeLimit(.minutes(5)))
    func idempotent() async throws {
        try await TestWorld.with { world async throws in
            try await withStore(world) { store, _ async throws in
                let id = Int64(world.client)
                for _ in 0..<3 {
                    try await store.upsert([point(id, client: world.client, angle: 0)], in: .events, deadline: soon)
                }
                #expect(try await store.search([query(world.client)], in: .events, deadline: soon)[0].dense.count == 1)
                for _ in 0..<2 { try await store.delete([id], in: .events, deadline: soon) }
                #expect(try await store.search([query(world.client)], in: .events, deadline: soon)[0].dense.isEmpty)
            }
        }
    }

    @Test(
        "An update that is only acknowledged does not count as stored", .timeLimit(.minutes(5)),
        arguments: [
            #"{"update_status": "acknowledged"}"#, #"{"update_status": "wait_timeout"}"#, #"{"garbage": true}"#,
            #"{"fail_next": 99, "fail_status": 500}"#, #"{"fail_next": 99, "fail_status": 429}"#,
            #"{"apply_then_drop": true}"#,
        ])
    func honest(_ fault: String) async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            try await withStore(world) { store, client async throws in
                try await store.setUp(deadline: soon)
                let one = point(1, client: 1, angle: 0)
                _ = try await store.search([query(1)], in: .events, deadline: soon)
                try await faults(world, fault)
                let error = await #expect(throws: MemoryError.self) {
                    try await store.upsert([one], in: .events, deadline: soon)
                }
                #expect(error?.isRetriable == true)
                try await faults(world, "{}")
                try await store.upsert([one], in: .events, deadline: soon)
                #expect(try await store.search([query(1)], in: .events, deadline: soon)[0].dense.count == 1)
            }
        }
    }

    private func faults(_ world: TestWorld, _ body: String) async throws { try await setFaults(world, body) }

    @Test("A request that does not fit is not tried again", .timeLimit(.minutes(5)))
    func permanent() async throws {
        try await TestWorld.with { world async throws in
            try await withStore(world) { store, _ async throws in
                var wrong = query(world.client)
                wrong.dense = [1, 2, 3]
                let error = await #expect(throws: MemoryError.self) {
                    try await store.search([wrong], in: .events, deadline: soon)
                }
                #expect(error?.isRetriable == false)
            }
        }
    }

    @Test("A collection that was dropped is made again by the next write", .timeLimit(.minutes(5)))
    func dropped() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            try await withStore(world) { store, client async throws in
                try await store.setUp(deadline: soon)
                try await store.upsert([point(1, client: 1, angle: 0)], in: .events, deadline: soon)
                _ = try await client.send(.delete, "/collections/events", deadline: soon)
                try await store.upsert([point(2, client: 1, angle: 0)], in: .events, deadline: soon)
                #expect(try await store.search([query(1)], in: .events, deadline: soon)[0].dense.map(\.id) == [2])
            }
        }
    }

    // MARK: Setup

    private func reports(_ world: TestWorld, check: Bool = false) async throws -> [String: Memory.CollectionReport] {
        let reports = try await Memory.setUpCollections(world.configuration, check: check)
        return Dictionary(uniqueKeysWithValues: reports.map { ($0.name, $0) })
    }

    @Test("Setup creates four collections, and a second run changes nothing", .timeLimit(.minutes(5)))
    func setUp() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            let names: Set = ["doc_chunks", "events", "agent_memories", "daily_threads"]
            let missing = try await reports(world, check: true)
            #expect(missing.values.allSatisfy { $0.state == "missing" })
            try await withStore(world) { _, client async throws in
                let listed = try await client.send(.get, "/collections", deadline: soon)["collections"]?.array ?? []
                #expect(listed.isEmpty)
                #expect(try await reports(world).values.allSatisfy { $0.state == "created" })
                #expect(try await reports(world).values.allSatisfy { $0.state == "matches" })
                #expect(try await reports(world, check: true).values.allSatisfy { $0.state == "matches" })
                let after = try await client.send(.get, "/collections", deadline: soon)["collections"]?.array ?? []
                #expect(Set(after.compactMap { $0["name"]?.string }) == names)
            }
        }
    }

    @Test(
        "A collection of another size or distance is named, with what was expected and found", .timeLimit(.minutes(5)))
    func wrongCollections() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            try await withStore(world) { store, client async throws in
                let bodies: [String: JSON] = [
                    "events": ["vectors": ["size": 768, "distance": "Cosine"]],
                    "daily_threads": ["vectors": ["size": 1536, "distance": "Dot"]],
                    "agent_memories": ["vectors": ["size": 1536, "distance": "Cosine"], "on_disk_payload": true],
                ]
                for (name, body) in bodies {
                    _ = try await client.send(.put, "/collections/\(name)", body: body.encoded, deadline: soon)
                }
                let found = try await reports(world)
                #expect(found["events"]?.isFatal == true)
                #expect(found["events"]?.differences.contains("size: expected 1536, found 768") == true)
                #expect(found["daily_threads"]?.isFatal == true)
                #expect(found["daily_threads"]?.differences.contains("distance: expected Cosine, found Dot") == true)
                #expect(found["agent_memories"]?.isFatal == false)
                #expect(found["agent_memories"]?.differences.contains { $0.hasPrefix("no sparse vector text") } == true)
                #expect(found["doc_chunks"]?.state == "created")
                let error = await #expect(throws: MemoryError.self) { try await store.setUp(deadline: soon) }
                #expect(error?.code == .configuration)
            }
        }
    }

    @Test("Without the sparse vector, meaning alone serves", .timeLimit(.minutes(5)))
    func denseOnly() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            try await withStore(world) { store, client async throws in
                let body: JSON = ["vectors": ["size": 1536, "distance": "Cosine"], "on_disk_payload": true]
                _ = try await client.send(.put, "/collections/events", body: body.encoded, deadline: soon)
                try await store.upsert([point(1, client: 1, angle: 0.2, "sunrise")], in: .events, deadline: soon)
                let answer = try await store.search([query(1, words: "sunrise")], in: .events, deadline: soon)[0]
                #expect(answer.dense.count == 1)
                #expect(answer.sparse.isEmpty)
            }
        }
    }

    @Test("The api-key is sent when it is set", .timeLimit(.minutes(5)))
    func apiKey() async throws {
        try await StubServer.with(answering: { _ in StubServer.Answer(200, #"{"result": {"collections": []}}"#) }) {
            url, stub in
            var configuration = QdrantConfiguration()
            configuration.url = url
            configuration.apiKey = Secret("k-1")
            let store = try QdrantStore(configuration)
            try await store.ping(deadline: .after(.seconds(10)))
            await store.close()
            #expect(stub.asked.map { $0.headers["api-key"] } == ["k-1"])
        }
    }

    @Test("A metadata key cannot take the place of a field of ours", .timeLimit(.minutes(5)))
    func hostileMetadata() async throws {
        try await TestWorld.with { world async throws in
            try await withStore(world) { store, _ async throws in
                var draft = MemoryDraft(clientID: world.client, content: "x")
                draft.metadata = ["client_id": .int(Int64(world.client + 1)), "must": [], "a.b[]": "\"}"]
                let record = MemoryRecord(draft, id: Int64(world.client), createdAt: .now)
                let forged = VectorPoint(
                    subject: .record(record), dense: Self.direction(0), sparse: .document("x"), model: "test")
                try await store.upsert([forged], in: .events, deadline: soon)
                var filter = RecallFilter()
                filter.metadata = ["a.b[]": "\"}"]
                let answers = try await store.search(
                    [query(world.client), query(world.client + 1), query(world.client, filter)], in: .events,
                    deadline: soon)
                #expect(answers.map(\.dense.count) == [1, 0, 1])
            }
        }
    }
}
