import MemoryTestSupport
import Testing

@testable import MemoryCore

/// The protocol of the outbox on real stores: whatever overlaps, is late or dies, a point shows the present version of its
/// record in the end. `Tests/Models/outbox.pml` has the same ways, and all others.
@Suite("Outbox")
struct OutboxTests {
    /// What the next writes of points meet; when there are no more, they are applied.
    private final class Script: Sendable {
        private let fates = Shared<[HeldVectors.Fate]>([])
        private let held = Shared<[CheckedContinuation<Void, Never>]>([])
        private let holds = Shared(0)

        func next(_ fates: HeldVectors.Fate...) { self.fates.value += fates }

        /// Lets the next write wait until ``release()``.
        func hold() { holds.withLock { $0 += 1 } }

        var isHolding: Bool { !held.value.isEmpty }

        func release() {
            for waiter in held.withLock({ held in
                defer { held = [] }
                return held
            }) { waiter.resume() }
        }

        func decide() async -> HeldVectors.Fate {
            let isHeld = holds.withLock { holds in
                defer { holds = max(0, holds - 1) }
                return holds > 0
            }
            if isHeld { await withCheckedContinuation { waiter in held.withLock { $0.append(waiter) } } }
            return fates.withLock { $0.isEmpty ? .applied : $0.removeFirst() }
        }
    }

    /// The sets of stores, and one whose vector store knows no conditional writes.
    enum Stores: CaseIterable, Sendable {
        case servers, olderQdrant, embedded

        var set: StoreSet { self == .embedded ? .embedded : .servers }
    }

    private func run(
        _ stores: Stores, _ test: @Sendable (Gateways, Script, MemoryPatch) async throws -> Int64
    ) async throws {
        try await TestWorld.with(stores.set, own: stores == .embedded ? [] : [.qdrant]) { world async throws in
            let script = Script()
            if stores == .olderQdrant { try await setFaults(world, #"{"version": [1, 15]}"#) }
            try await Gateways.with(world, writing: { await script.decide() }) { gateways async throws in
                var patch = MemoryPatch()
                patch.content = "coffee in the evening"
                let id = try await test(gateways, script, patch)
                for _ in 0..<gateways.vectors.lateCount { try await gateways.vectors.end(0, applying: true) }
                try await gateways.drain()
                #expect(try await gateways.point(id, shows: "coffee in the evening") == true)
            }
        }
    }

    private func heldRemember(
        _ memory: Memory, _ world: TestWorld, _ script: Script, key: String? = nil,
        _ meanwhile: (Int64) async throws -> Void
    ) async throws -> Int64 {
        script.hold()
        let draft = MemoryDraft(clientID: world.client, content: "tea at four")
        async let receipt = memory.remember(draft, idempotencyKey: key)
        do {
            try await world.eventually("its point is under way") { script.isHolding }
            let id = try #require(
                try await world.execute("SELECT max(id) FROM events WHERE client_id = \(world.client)")[0][0]
                    .flatMap { Int64($0) })
            try await meanwhile(id)
        } catch {
            script.release()
            throw error
        }
        script.release()
        return try await receipt.memoryID
    }

    @Test(
        "A write that comes after its caller gave up does not replace a newer one", .timeLimit(.minutes(5)),
        arguments: Stores.allCases, [true, false])
    func lateWrite(_ stores: Stores, reports: Bool) async throws {
        try await run(stores) { gateways, script, patch async throws in
            let (first, second) = (gateways.another(), gateways.another())
            script.next(.late)
            let id = try await first.remember("tea at four", client: gateways.world.client).memoryID
            _ = try await second.update(id, client: gateways.world.client, patch)
            await second.outbox.look()
            // Or the gateway dies, and reports nothing.
            if reports { await first.outbox.look() }
            return id
        }
    }

    @Test(
        "Three writers that overlap leave the last one's point", .timeLimit(.minutes(5)), arguments: Stores.allCases)
    func threeWriters(_ stores: Stores) async throws {
        try await run(stores) { gateways, script, patch async throws in
            let (first, second, third) = (gateways.another(), gateways.another(), gateways.another())
            let client = gateways.world.client
            let id = try await heldRemember(first, gateways.world, script) { id async throws in
                var earlier = patch
                earlier.content = "cocoa at noon"
                _ = try await second.update(id, client: client, earlier)
                _ = try await third.update(id, client: client, patch)
                await third.outbox.flush()
                await second.outbox.flush()
            }
            await first.outbox.flush()
            return id
        }
    }

    @Test(
        "A retry that finishes another's work does not replace what was changed since", .timeLimit(.minutes(5)),
        arguments: Stores.allCases)
    func finish(_ stores: Stores) async throws {
        try await run(stores) { gateways, script, patch async throws in
            let (first, second, third) = (gateways.another(), gateways.another(), gateways.another())
            let client = gateways.world.client
            let draft = MemoryDraft(clientID: client, content: "tea at four")
            _ = try await first.remember(draft, idempotencyKey: "k")
            // It died before its answer was kept.
            try await gateways.world.execute("UPDATE idempotency_keys SET response = NULL")
            return try await heldRemember(third, gateways.world, script, key: "k") { id async throws in
                _ = try await second.update(id, client: client, patch)
                await second.outbox.flush()
            }
        }
    }

    @Test(
        "A report that comes after its lease clears nothing that was asked for since", .timeLimit(.minutes(5)),
        arguments: [Stores.servers, .embedded])
    func lateReport(_ stores: Stores) async throws {
        try await run(stores) { gateways, script, patch async throws in
            let (first, second, worker) = (gateways.another(), gateways.another(), gateways.another())
            let id = try await heldRemember(first, gateways.world, script) { id async throws in
                try await gateways.endLeases()
                await worker.outbox.look()
                script.next(.refused)
                _ = try await second.update(id, client: gateways.world.client, patch)
            }
            await first.outbox.flush()
            await second.outbox.flush()
            return id
        }
    }

    // MARK: The reconciler

    @Test(
        "A point that shows an old version, or one that the records have lost, is made again", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func reconciler(_ set: StoreSet) async throws {
        try await TestWorld.with(set, own: set == .servers ? [.qdrant] : []) { world async throws in
            try await Gateways.with(world, writing: { .applied }) { gateways async throws in
                let memory = gateways.another()
                let id = try await memory.remember("tea at four", client: world.client).memoryID
                let record = try await memory.memory(id, client: world.client)
                var patch = MemoryPatch()
                patch.content = "coffee in the evening"
                _ = try await memory.update(id, client: world.client, patch)
                try await gateways.drain()
                #expect(try await memory.reconcile() == (0, 0))
                let soon = Deadline.after(.seconds(20))
                let old = try await LexicalEmbedder().embed(["tea at four"], deadline: soon)[0].get()
                // A page is enough: the numbers are the same.
                for (version, isWhole) in [(Int64(1), true), (9, true), (1, false), (9, false)] {
                    let point = VectorPoint(
                        subject: .record(record), dense: old, sparse: .document("tea"), model: "m", version: version)
                    try await memory.vectors.delete([id], in: .events, deadline: soon)
                    try await memory.vectors.upsert([point], in: .events, deadline: soon)
                    #expect(try await gateways.point(id, shows: "coffee in the evening") == false)
                    let found = try await memory.reconciler.reconcile(always: isWhole)
                    #expect(found == Reconciler.Finding(stale: 1))
                    try await gateways.drain()
                    #expect(try await gateways.point(id, shows: "coffee in the evening") == true)
                }
            }
        }
    }

    // MARK: Keys

    /// A session in which something happens before the first rows are read.
    private struct Interrupted: SQLSession {
        let base: any SQLSession
        let isOver = Shared(false)
        let happens: @Sendable (any SQLSession) throws(MemoryError) -> Void
        var dialect: SQLDialect { base.dialect }

        func query(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> [SQLRow] {
            let isFirst = isOver.withLock { isOver in
                defer { isOver = true }
                return !isOver
            }
            if isFirst { try happens(base) }
            return try base.query(sql, values)
        }

        func execute(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> Int { try base.execute(sql, values) }
        func script(_ sql: SQL) throws(MemoryError) { try base.script(sql) }
    }

    @Test(
        "A key that ends while it is looked at is taken anew, not taken for free without being kept",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func keyEnds(_ set: StoreSet) async throws {
        try await TestWorld.with(set) { world async throws in
            try await world.withMemory { memory async throws in
                let key = IdempotencyRepository.Key(clientID: world.client, key: "k", requestHash: [1])
                try await memory.write { session throws(MemoryError) in
                    let earlier = try IdempotencyRepository(session: session).take(key)
                    #expect(earlier?.eventIDs == nil)
                }
                try await memory.write { session throws(MemoryError) in
                    let interrupted = Interrupted(base: session) { session throws(MemoryError) in
                        try session.execute("DELETE FROM idempotency_keys", [])
                    }
                    let earlier = try IdempotencyRepository(session: interrupted).take(key)
                    #expect(earlier?.eventIDs == nil)
                }
                #expect(try await world.execute("SELECT key FROM idempotency_keys") == [["k"]])
            }
        }
    }
}

/// Tells a test's own Qdrant how to misbehave.
func setFaults(_ world: TestWorld, _ faults: String) async throws {
    let http = try CurlClient(store: .qdrant)
    _ = try await http.send(
        CurlRequest(
            method: .post, url: world.configuration.qdrant.url + "/__test__/config", body: Array(faults.utf8),
            deadline: .after(.seconds(20))))
    await http.close()
}
