import Metrics
import Synchronization

/// Vectors for everyone: concurrent texts go to the provider together, and the last few hundred vectors are kept, so that
/// a retry of the outbox or a repeated question costs nothing. Questions are kept in the cache as well; contents are not,
/// because they are seldom seen twice and would push out what is.
final class EmbeddingService: Sendable {
    private struct CacheKey: Hashable {
        let digest: [UInt8]
    }

    let model: String
    private let embedder: any Embedder
    private let cache: MemoryCache
    private let batches: Coalescer<String, [Float]>
    private let recent = Mutex(LRUCache<CacheKey, [Float]>(capacity: 512))
    private let requests = Counter(label: "memory_gateway_embedding_requests_total")

    init(_ embedder: any Embedder, cache: MemoryCache) {
        self.embedder = embedder
        self.cache = cache
        model = embedder.model
        let requests = requests
        batches = Coalescer(store: .embeddings, maxBatch: embedder.maxBatch, maxRunning: 4) { texts, deadline in
            requests.increment()
            return await embedder.embed(texts, deadline: deadline)
        }
    }

    /// The vector of a memory's content.
    func vector(ofContent text: String, deadline: Deadline) async throws(MemoryError) -> [Float] {
        let key = CacheKey(digest: sha256(model, text))
        if let known = recent.withLock({ $0.value(for: key) }) { return known }
        let vector = try await batches.submit(text, deadline: deadline)
        recent.withLock { $0.insert(vector, for: key) }
        return vector
    }

    /// The vector of a client's question; a new one is for the caller to keep.
    func vector(ofQuery text: String, clientID: Int, deadline: Deadline) async throws(MemoryError) -> QueryVector {
        let key = CacheKey(digest: sha256(model, text))
        func found(_ values: [Float], isNew: Bool = false) -> QueryVector {
            QueryVector(text: text, model: model, values: values, isNew: isNew)
        }
        if let known = recent.withLock({ $0.value(for: key) }) { return found(known) }
        if let kept = await cache.vector(text, model: model, clientID: clientID, deadline: deadline) {
            recent.withLock { $0.insert(kept, for: key) }
            return found(kept)
        }
        let vector = try await batches.submit(text, deadline: deadline)
        recent.withLock { $0.insert(vector, for: key) }
        return found(vector, isNew: true)
    }

    func check(deadline: Deadline) async throws(MemoryError) { try await embedder.check(deadline: deadline) }

    func close() async { await embedder.close() }
}
