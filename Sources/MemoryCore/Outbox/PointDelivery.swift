/// Brings points of the vector store to the present state of their records: the one way in which vectors are written,
/// whether right after a remember or later by the outbox.
struct PointDelivery: Sendable {
    let vectors: any VectorStore
    let embeddings: EmbeddingService
    private let upserts: Coalescer<VectorPoint, Bool>
    private let deletions: Coalescer<Int64, Bool>

    init(vectors: any VectorStore, embeddings: EmbeddingService) {
        self.vectors = vectors
        self.embeddings = embeddings
        upserts = Coalescer(store: vectors.name, maxBatch: 64, maxRunning: 4) { points, deadline in
            await isolatingFailures(points) { points throws(MemoryError) in
                try await vectors.upsert(points, in: .events, deadline: deadline)
                return points.map { _ in .success(true) }
            }
        }
        deletions = Coalescer(store: vectors.name, maxBatch: 256, maxRunning: 2) { ids, deadline in
            await isolatingFailures(ids) { ids throws(MemoryError) in
                try await vectors.delete(ids, in: .events, deadline: deadline)
                return ids.map { _ in .success(true) }
            }
        }
    }

    /// Embeds a record, unless its vector was supplied, and stores its point.
    func store(
        _ record: MemoryRecord, supplied: [Float]?, budget: Budget, deadline: Deadline
    ) async throws(MemoryError) {
        let dense: [Float]
        if let supplied {
            dense = try VectorMath.normalised(supplied)
        } else {
            dense = try await embeddings.vector(
                ofContent: record.content, deadline: deadline.capped(at: budget.embedding))
        }
        let point = VectorPoint(
            record: record, dense: dense, sparse: .document(record.content), model: embeddings.model)
        _ = try await upserts.submit(point, deadline: deadline.capped(at: budget.vectors))
    }

    /// Removes a point.
    func remove(_ id: Int64, budget: Budget, deadline: Deadline) async throws(MemoryError) {
        _ = try await deletions.submit(id, deadline: deadline.capped(at: budget.vectors))
    }

    /// How long each step may take.
    struct Budget: Sendable {
        var embedding: Duration
        var vectors: Duration
    }
}
