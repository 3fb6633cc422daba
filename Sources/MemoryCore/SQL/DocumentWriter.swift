/// Stores documents, each in the place of the one of its id, in transactions of a slice each.
struct DocumentWriter: Sendable {
    let database: any SQLDatabase
    let surroundings: any Surroundings

    /// A document that was stored.
    struct Stored: Sendable {
        /// The chunks that the caller delivers, with their leases.
        let new: [(chunk: DocumentChunk, lease: OutboxRepository.Lease)]
        /// The leases of the chunks that went.
        let gone: [OutboxRepository.Lease]
    }

    /// For how long the outbox leaves chunks to whoever stored them.
    private static let lease: Duration = .seconds(15)
    /// How often a document may be deleted while it is being stored.
    private static let maxAttempts = 5

    /// Stores a document.
    ///
    /// - Parameters:
    ///   - draft: the document.
    ///   - chunks: what it was cut into.
    ///   - delivered: how many chunks the caller delivers, the first; the others are the outbox's at once.
    ///   - prepare: what the first transaction begins with.
    ///   - deadline: of all of them.
    /// - Returns: what the caller is to deliver.
    /// - Throws: ``MemoryError`` with its `outcome`.
    func store(
        _ draft: DocumentDraft, chunks: [String], delivered: Int,
        prepare: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Void, deadline: Deadline
    ) async throws(MemoryError) -> Stored {
        for _ in 0..<Self.maxAttempts {
            let job = Job(
                draft: draft, chunks: chunks, delivered: delivered,
                generation: Int64(bitPattern: surroundings.random() >> 1))
            let isLong = chunks.count > DocumentRepository.slice
            let stored = try await isLong ? inSlices(job, prepare, deadline) : atOnce(job, prepare, deadline)
            if let stored { return stored }
        }
        throw .unavailable(database.name, "a document that is deleted over and over while it is stored")
    }

    private struct Job: Sendable {
        let draft: DocumentDraft
        let chunks: [String]
        let delivered: Int
        let generation: Int64

        func stored(
            _ ids: [Int64], _ replaced: DocumentRepository.Replaced, clientID: Int, at now: Timestamp
        ) -> Stored {
            let new = replaced.new.sorted { $0.key < $1.key }.map { place, lease in
                let chunk = DocumentChunk(
                    id: ids[place], clientID: clientID, documentID: draft.id, index: place, content: chunks[place],
                    metadata: draft.metadata, createdAt: now)
                return (chunk: chunk, lease: lease)
            }
            return Stored(new: new, gone: replaced.gone)
        }
    }

    private func atOnce(
        _ job: Job, _ prepare: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Void, _ deadline: Deadline
    ) async throws(MemoryError) -> Stored? {
        let now = surroundings.now
        return try await database.write(deadline: deadline) { session throws(MemoryError) in
            try prepare(session)
            let documents = DocumentRepository(session: session)
            let staging = try documents.stage(job.draft, generation: job.generation, isKept: false)
            let ids = try documents.insert(job.chunks[...], into: staging)
            let replaced = try documents.publish(
                job.draft, chunks: ids, of: staging, delivered: job.delivered, lease: Self.lease)
            return replaced.map { job.stored(ids, $0, clientID: staging.clientID, at: now) }
        }
    }

    /// - Returns: nil when the document was deleted in between, and what was staged with it.
    private func inSlices(
        _ job: Job, _ prepare: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Void, _ deadline: Deadline
    ) async throws(MemoryError) -> Stored? {
        let staging: DocumentRepository.Staging
        var ids: [Int64] = []
        do throws(MemoryError) {
            staging = try await database.write(deadline: deadline) { session throws(MemoryError) in
                try prepare(session)
                return try DocumentRepository(session: session)
                    .stage(job.draft, generation: job.generation, isKept: true)
            }
            for start in stride(from: 0, to: job.chunks.count, by: DocumentRepository.slice) {
                let slice = job.chunks[start..<min(start + DocumentRepository.slice, job.chunks.count)]
                let stored = try await database.write(deadline: deadline, durable: false) {
                    session throws(MemoryError) in
                    try DocumentRepository(session: session).insert(slice, into: staging)
                }
                ids += stored
            }
        } catch {
            if error.code == .unprocessable, error.driverCode != nil { return nil }
            // Whatever became of a slice, nobody reads it.
            var error = error
            error.outcome = .notStored
            throw error
        }
        let (all, now) = (ids, surroundings.now)
        let replaced = try await database.write(deadline: deadline) { session throws(MemoryError) in
            try DocumentRepository(session: session)
                .publish(job.draft, chunks: all, of: staging, delivered: job.delivered, lease: Self.lease)
        }
        return replaced.map { job.stored(all, $0, clientID: staging.clientID, at: now) }
    }
}
