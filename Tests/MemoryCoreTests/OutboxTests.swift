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

    private func run(
        _ set: StoreSet, _ test: @Sendable (Gateways, Script, MemoryPatch) async throws -> Int64
    ) async throws {
        try await TestWorld.with(set, own: set == .servers ? [.qdrant] : []) { world async throws in
            let script = Script()
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
        arguments: StoreSet.allCases, [true, false])
    func lateWrite(_ set: StoreSet, reports: Bool) async throws {
        try await run(set) { gateways, script, patch async throws in
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
        "Three writers that overlap leave the last one's point", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func threeWriters(_ set: StoreSet) async throws {
        try await run(set) { gateways, script, patch async throws in
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
        arguments: StoreSet.allCases)
    func finish(_ set: StoreSet) async throws {
        try await run(set) { gateways, script, patch async throws in
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
        arguments: StoreSet.allCases)
    func lateReport(_ set: StoreSet) async throws {
        try await run(set) { gateways, script, patch async throws in
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
}
