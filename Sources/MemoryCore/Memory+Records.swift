extension Memory {
    /// One memory of a client. When the primary store is away, the cached copy answers, if there is one.
    ///
    /// - Throws: ``MemoryError`` with `not_found` when the client has no such memory, or it has expired.
    public func memory(_ id: Int64, client: Int) async throws(MemoryError) -> MemoryRecord {
        let key = try key(id, client)
        let deadline = Deadline.after(configuration.budgets.recall)
        let record: MemoryRecord?
        do throws(MemoryError) {
            record = try await reads.submit(key, deadline: deadline.capped(at: configuration.budgets.readRecords))
        } catch {
            guard let kept = await cache.records([key], deadline: deadline).first else { throw error }
            record = kept
        }
        guard let record, !record.hasExpired(at: .now) else { throw Self.missing }
        return record
    }

    /// Forgets one memory of a client, in all stores. When a copy cannot be removed now, the outbox does it later; no
    /// recall finds it in between.
    ///
    /// - Throws: ``MemoryError`` with `not_found` when the client has no such memory, which is so after the first time.
    public func delete(_ id: Int64, client: Int) async throws(MemoryError) {
        let key = try key(id, client)
        let deadline = Deadline.after(configuration.budgets.remember)
        let fence = try await database.write(deadline: deadline.capped(at: configuration.budgets.transaction)) {
            session throws(MemoryError) in
            try EventRepository(session: session).delete(key, lease: OutboxWorker.inlineLease)
        }
        guard let fence else { throw Self.missing }
        let lease = OutboxRepository.Lease(
            collection: VectorCollection.events.description, key: key, fence: fence, attempts: 0, isStored: false)
        let pointError = await removePoint(id, deadline)
        let cacheError = await dropFromCache(key)
        if let error = pointError ?? cacheError {
            outbox.failed(lease, error, isStored: pointError == nil)
        } else {
            outbox.delivered(lease)
        }
    }

    private func removePoint(_ id: Int64, _ deadline: Deadline) async -> MemoryError? {
        let budget = PointDelivery.Budget(
            embedding: configuration.budgets.embedContent, vectors: configuration.budgets.writeVector)
        do throws(MemoryError) {
            try await delivery.remove(id, budget: budget, deadline: deadline)
            return nil
        } catch {
            return error
        }
    }

    private func dropFromCache(_ key: RecordKey) async -> MemoryError? {
        do throws(MemoryError) {
            try await cache.drop([key], deadline: .after(MemoryCache.writeTimeout))
            return nil
        } catch {
            return error
        }
    }

    private static let missing = MemoryError(.notFound, "Entity not found")

    /// - Throws: ``MemoryError`` with `not_found` for an id that no memory can have.
    private func key(_ id: Int64, _ client: Int) throws(MemoryError) -> RecordKey {
        try Limits.check(clientID: client)
        guard (1...Int64(Int32.max)).contains(id) else { throw Self.missing }
        return RecordKey(id: id, clientID: client)
    }
}
