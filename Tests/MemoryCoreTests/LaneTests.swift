import Dispatch
import Logging
import MemoryTestSupport
import Synchronization
import Testing

@testable import MemoryCore

/// What nobody waits for has lanes of its own: its long budgets never bind a request.
@Suite("Lanes")
struct LaneTests {
    /// An embedder that answers nothing while it is held, as a provider that takes its time.
    private final class HeldEmbedder: Embedder {
        let model = LexicalEmbedder().model
        let maxBatch = 4
        let isHeld = Shared(true)
        /// How many batches with much time are waited for, and how many have ended.
        let patient = Shared((waiting: 0, ended: 0))
        let asked = Shared<[String]>([])

        func embed(_ texts: [String], deadline: Deadline) async -> [Result<[Float], MemoryError>] {
            let isPatient = deadline.remaining > .seconds(3)
            asked.withLock { $0 += texts }
            if isPatient { patient.withLock { $0.waiting += 1 } }
            defer { if isPatient { patient.withLock { $0.ended += 1 } } }
            while isHeld.value {
                if deadline.hasPassed { return texts.map { _ in .failure(.timeout(.embeddings, "held")) } }
                try? await Task.sleep(for: .milliseconds(5))
            }
            return await LexicalEmbedder().embed(texts, deadline: deadline)
        }

        func check(deadline: Deadline) async throws(MemoryError) {}
        func close() async {}
    }

    private func withMemory(
        _ world: TestWorld, _ embedder: HeldEmbedder, _ test: (Memory) async throws -> Void
    ) async throws {
        let stores = try await OpenStores(world.configuration, logger: DeadlineTests.silent)
        let memory = Memory(world.configuration, stores: stores, embedder: embedder, logger: DeadlineTests.silent)
        world.use(memory)
        memory.startBackground(prepared: AsyncStream.makeStream().continuation)
        do {
            try await world.eventually("the stores are ready") { await memory.isReady() }
            try await test(memory)
        } catch {
            embedder.isHeld.value = false
            await memory.close()
            throw error
        }
        embedder.isHeld.value = false
        await memory.close()
    }

    @Test(
        "With a slow provider and a backlog a recall is answered from full text in its own budget",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func slowProvider(_ stores: StoreSet) async throws {
        try await TestWorld.with(
            stores,
            configure: { configuration in
                configuration.budgets.embedContent = .milliseconds(100)
                configuration.budgets.embedQuery = .milliseconds(100)
            }
        ) { world async throws in
            let embedder = HeldEmbedder()
            try await withMemory(world, embedder) { memory async throws in
                let drafts = (0..<64).map { MemoryDraft(clientID: world.client, content: "tea number \($0)") }
                _ = try await memory.remember(drafts)
                try await world.eventually("the backlog is with the provider") { embedder.patient.value.waiting >= 4 }
                let answer = try await memory.recall(RecallRequest(query: "tea", clientID: world.client))
                #expect(answer.isDegraded && answer.count == 5)
                let receipt = try await memory.remember("coffee", client: world.client)
                #expect(receipt.storedIn.contains(memory.database.name))
                #expect(embedder.patient.value.ended == 0, "it did not wait for the backlog")
            }
        }
    }

    @Test(
        "While Valkey is frozen under a patient call, recalls go on uncached and health is known",
        .timeLimit(.minutes(5)))
    func frozenCache() async throws {
        try await TestWorld.with(
            own: [.valkey],
            configure: { configuration in
                configuration.valkey.connections = 1
                (configuration.budgets.readCache, configuration.budgets.writeCache) = (
                    .milliseconds(50), .milliseconds(100)
                )
            }
        ) { world async throws in
            try await world.withMemory { memory async throws in
                try await memory.remember("tea at four", client: world.client)
                let request = RecallRequest(query: "tea", clientID: world.client)
                _ = try await memory.recall(request)
                try await world.eventually("the recall is cached") { try await memory.recall(request).isCached }
                try await world.perform(.pause, .valkey)
                let hasEnded = Shared(false)
                let patient = Task {
                    _ = try? await memory.messages(of: "s", client: world.client)
                    hasEnded.value = true
                }
                _ = await memory.cache.lookUp(request, deadline: .after(.seconds(20)))
                #expect(!hasEnded.value, "nobody waits for it")
                for _ in 0..<5 {
                    let answer = try await memory.recall(request)
                    #expect(!answer.isCached && !answer.isDegraded && answer.count == 1)
                }
                #expect(await !memory.health().isUp(.valkey))
                try await world.perform(.resume, .valkey)
                await patient.value
                try await world.eventually("the cache serves again") { try await memory.recall(request).isCached }
            }
        }
    }

    @Test("Eight documents that take their time leave connections to remembers and health", .timeLimit(.minutes(5)))
    func documents() async throws {
        try await TestWorld.with { world async throws in
            try await world.withMemory { memory async throws in
                let (held, release) = (Shared(false), DispatchSemaphore(value: 0))
                var apart = world.configuration.postgres
                apart.connections = 1
                let other = try PostgresDatabase(apart)
                let lock = Task {
                    try await other.write(deadline: .after(.seconds(60))) { session throws(MemoryError) in
                        try session.execute("LOCK TABLE document_chunks IN ACCESS EXCLUSIVE MODE", [])
                        held.value = true
                        // A transaction that is left idle is ended after two seconds.
                        while release.wait(timeout: .now() + .milliseconds(200)) == .timedOut {
                            _ = try session.query("SELECT 1", [])
                        }
                    }
                }
                try await world.eventually("documents have to wait") { held.value }
                let ended = Shared(0)
                let documents = (0..<8).map { number in
                    Task {
                        let draft = DocumentDraft(id: "d\(number)", owner: .client(world.client), content: "long")
                        _ = try? await memory.ingest(draft)
                        ended.withLock { $0 += 1 }
                    }
                }
                try await world.eventually("they wait") {
                    try await world.execute(
                        "SELECT count(*) > 0 FROM pg_locks JOIN pg_class ON relation = pg_class.oid "
                            + "WHERE relname = 'document_chunks' AND NOT granted") == [["t"]]
                }
                for number in 0..<10 {
                    try await memory.remember("tea \(number)", client: world.client + 1)
                    #expect(try await !memory.recall("tea", client: world.client + 1).isEmpty)
                }
                #expect(await memory.health().isUp(.postgres))
                #expect(ended.value == 0, "nobody waited for them")
                release.signal()
                try await lock.value
                for document in documents { await document.value }
                await other.close()
            }
        }
    }

    @Test("Identical recalls share one search also where there is no cache", .timeLimit(.minutes(5)))
    func withoutCache() async throws {
        try await TestWorld.with(configure: { $0.valkey.port = 1 }) { world async throws in
            let embedder = HeldEmbedder()
            try await withMemory(world, embedder) { memory async throws in
                let request = RecallRequest(query: "a question of many", clientID: world.client)
                let flight = memory.cache.flight(request, nil)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<20 { group.addTask { _ = try await memory.recall(request) } }
                    try await world.eventually("all but one wait") { memory.recalls.waitingCount(flight) == 19 }
                    embedder.isHeld.value = false
                    try await group.waitForAll()
                }
                #expect(embedder.asked.value.count { $0 == request.query } == 1)
                try await memory.remember("tea", client: world.client)
                #expect(
                    memory.cache.flight(request, nil) != flight, "nobody joins a search that began before their write")
            }
        }
    }
}
