import Logging

extension Memory {
    /// What an erasure took away.
    public struct Erasure: Sendable {
        /// Memories, agent memories and reflections.
        public let memories: Int
        /// Other events.
        public let events: Int
        /// Documents.
        public let documents: Int
        /// Plans.
        public let plans: Int
        /// Values in short-term memory: sessions, cached records and recalls.
        public let cached: Int
        /// The stores that could not be reached. Vectors, sessions and cached values are removed later, by themselves; until
        /// then the client's sessions are refused by every gateway.
        public let failed: [MemoryError.Store]
    }

    /// The most vectors that are removed before the answer; the outbox removes the others.
    private static let vectorsErasedAtOnce = 10_000

    /// Erases a client everywhere: records and their history, documents, plans, keys of idempotency, the profile, vectors,
    /// sessions, cached values. What has no client (graph, runs, templates) stays.
    public func erase(client: Int) async throws(MemoryError) -> Erasure {
        try Limits.check(clientID: client)
        return try await Lane.background.run { () throws(MemoryError) in try await eraseAll(of: client) }
    }

    private func eraseAll(of client: Int) async throws(MemoryError) -> Erasure {
        let deadline = Deadline.after(.seconds(30))
        let (counts, points, lease) = try await database.write(deadline: deadline) { session throws(MemoryError) in
            let clients = ClientRepository(session: session)
            let points = try clients.enqueuePoints(of: client, limit: Self.vectorsErasedAtOnce)
            let lease = try ErasureRepository(session: session).owe(client, lease: Erasures.lease)
            return (try clients.erase(client), points, lease)
        }
        cache.noteErasure(of: client, isOwed: true)
        var failed: [MemoryError.Store] = []
        if await !removeErased(points, deadline) { failed.append(vectors.name) }
        var cached = 0
        do throws(MemoryError) {
            cached = try await erasures.erase(lease, deadline: deadline)
        } catch {
            failed.append(cache.store.name)
            // By then no gateway serves a session of the client.
            try? await surroundings.sleep(for: Erasures.life)
        }
        logger.notice(
            "A client was erased", metadata: [LogKey.client: "\(client)", LogKey.count: "\(counts.memories)"])
        return Erasure(
            memories: counts.memories, events: counts.events, documents: counts.documents, plans: counts.plans,
            cached: cached, failed: failed)
    }

    /// Ids are never given twice, so removing a point that the outbox removes as well is harmless.
    private func removeErased(_ points: [(collection: String, id: Int64)], _ deadline: Deadline) async -> Bool {
        let byCollection = Dictionary(grouping: points, by: \.collection)
        do throws(MemoryError) {
            for (collection, points) in byCollection {
                for start in stride(from: 0, to: points.count, by: 1000) {
                    try await vectors.delete(
                        points[start..<min(start + 1000, points.count)].map(\.id), in: VectorCollection(collection),
                        deadline: deadline)
                }
            }
            return points.count < Self.vectorsErasedAtOnce
        } catch {
            return false
        }
    }
}
