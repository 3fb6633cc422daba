import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore

/// Several gateways of one world on the same stores, whose writes of points and transactions the test decides about, and
/// with nothing at work in the background.
final class Gateways: Sendable {
    let world: TestWorld
    /// What every gateway writes points through.
    let vectors: HeldVectors
    private let stores: OpenStores

    private init(_ world: TestWorld, _ stores: OpenStores, _ vectors: HeldVectors) {
        (self.world, self.stores, self.vectors) = (world, stores, vectors)
    }

    static func with(
        _ world: TestWorld, writing decide: @escaping @Sendable () async -> HeldVectors.Fate,
        before: @escaping @Sendable () async throws(MemoryError) -> Void = {},
        _ test: (Gateways) async throws -> Void
    ) async throws {
        // A first opening makes the tables of an embedded world.
        try await world.withMemory { _ in }
        var stores = try await OpenStores(world.configuration, logger: silent)
        let vectors = HeldVectors(stores.vectors, deciding: decide)
        stores.vectors = vectors
        stores.database = GatedDatabase(base: stores.database, before: before)
        let gateways = Gateways(world, stores, vectors)
        let first = gateways.another()
        world.use(first)
        do {
            try await test(gateways)
            await first.close()
        } catch {
            await first.close()
            throw error
        }
    }

    private static var silent: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

    /// One more gateway.
    func another() -> Memory {
        Memory(
            world.configuration, stores: stores, embedder: LexicalEmbedder(), logger: Self.silent,
            surroundings: TestSurroundings(seed: 1))
    }

    /// Ends all leases, as time does.
    func endLeases() async throws {
        let past = world.stores == .embedded ? "0" : "now() - interval '1 hour'"
        try await world.execute("UPDATE memory_outbox SET due_at = \(past), held_until = NULL")
    }

    /// Has everything delivered that is owed.
    func drain() async throws {
        let worker = another()
        for _ in 0..<40 {
            try await endLeases()
            await worker.outbox.look()
            if try await worker.outboxCounts() == (0, 0) { return }
        }
        throw Unsettled()
    }

    struct Unsettled: Error {}

    /// Whether the point of a memory is that of a text; nil when there is no point.
    func point(_ id: Int64, shows content: String) async throws -> Bool? {
        let soon = Deadline.after(.seconds(20))
        guard let found = try await vectors.vectors(of: [id], in: .events, deadline: soon)[id] else { return nil }
        let wanted = try await LexicalEmbedder().embed([content], deadline: soon)[0].get()
        let cosine = zip(found, wanted).reduce(Float(0)) { $0 + $1.0 * $1.1 }
        return cosine > 0.99
    }
}
