/// Brings points of the vector store to the present state of their records: the one way in which vectors are written,
/// whether right after a remember or later by the outbox.
struct PointDelivery: Sendable {
    let vectors: any VectorStore
    let embeddings: EmbeddingService
    private let upserts: [VectorCollection: Coalescer<VectorPoint, Bool>]
    private let deletions: [VectorCollection: Coalescer<Int64, Bool>]

    init(vectors: any VectorStore, embeddings: EmbeddingService) {
        self.vectors = vectors
        self.embeddings = embeddings
        func forEach<Item>(_ make: (VectorCollection) -> Coalescer<Item, Bool>) -> [VectorCollection: Coalescer<
            Item, Bool
        >] {
            Dictionary(uniqueKeysWithValues: VectorCollection.all.map { ($0, make($0)) })
        }
        upserts = forEach { collection in
            Coalescer(store: vectors.name, maxBatch: 64, maxRunning: vectors.parallelWrites) { points, deadline in
                await isolatingFailures(points) { points throws(MemoryError) in
                    try await vectors.upsert(points, in: collection, deadline: deadline)
                    return points.map { _ in .success(true) }
                }
            }
        }
        deletions = forEach { collection in
            Coalescer(store: vectors.name, maxBatch: 256, maxRunning: vectors.parallelWrites) { ids, deadline in
                await isolatingFailures(ids) { ids throws(MemoryError) in
                    try await vectors.delete(ids, in: collection, deadline: deadline)
                    return ids.map { _ in .success(true) }
                }
            }
        }
    }

    /// Embeds a subject, unless its vector was supplied, and stores its point.
    func store(
        _ subject: PointSubject, version: Int64 = 1, supplied: [Float]? = nil, budget: Budget, deadline: Deadline
    ) async throws(MemoryError) {
        let dense: [Float]
        if let supplied {
            dense = try VectorMath.normalised(supplied)
        } else {
            dense = try await embeddings.vector(
                ofContent: subject.content, deadline: deadline.capped(at: budget.embedding))
        }
        let sparse = try await Self.words(subject.content, deadline.capped(at: budget.embedding))
        let point = VectorPoint(
            subject: subject, dense: dense, sparse: sparse, model: embeddings.model, version: version)
        guard let upserts = upserts[subject.collection] else { return }
        _ = try await upserts.submit(point, deadline: deadline.capped(at: budget.vectors))
    }

    /// The words of a text. Those of a long one take longer than others should wait.
    private static func words(_ content: String, _ deadline: Deadline) async throws(MemoryError) -> SparseVector {
        guard content.utf8.count > LexicalEmbedder.slowBytes else { return .document(content) }
        return try await WorkThreads.shared.run(deadline: deadline) { .document(content) }
    }

    /// Removes a point.
    func remove(
        _ id: Int64, from collection: VectorCollection, budget: Budget, deadline: Deadline
    ) async throws(MemoryError) {
        guard let deletions = deletions[collection] else { return }
        _ = try await deletions.submit(id, deadline: deadline.capped(at: budget.vectors))
    }

    /// How long each step may take.
    struct Budget: Sendable {
        var embedding: Duration
        var vectors: Duration
    }
}
