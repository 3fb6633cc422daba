extension Memory {
    /// One memory of a client. When the primary store is away, the cached copy answers, if there is one.
    ///
    /// - Throws: ``MemoryError`` with `not_found` when the client has no such memory, or it has expired.
    public func memory(_ id: Int64, client: Int) async throws(MemoryError) -> MemoryRecord {
        let key = try key(id, client)
        let deadline = Deadline.after(configuration.budgets.recall)
        let record: MemoryRecord?
        do throws(MemoryError) {
            let limit = deadline.capped(at: configuration.budgets.readRecords)
            record = try await reads.submit([key], deadline: limit).first
        } catch {
            guard let kept = await cache.records([key], deadline: deadline).first else { throw error }
            record = kept
        }
        guard let record, !record.hasExpired(at: surroundings.now) else { throw Self.missing }
        return record
    }

    /// Changes a memory of a client. What it was is kept: ``history(of:client:)`` has it.
    ///
    /// When a copy cannot be changed now, the outbox does it later.
    ///
    /// - Throws: ``MemoryError`` with `not_found` when the client has no such memory, or it has expired.
    public func update(_ id: Int64, client: Int, _ patch: MemoryPatch) async throws(MemoryError) -> MemoryRecord {
        let key = try key(id, client)
        try patch.validate()
        let deadline = Deadline.after(configuration.budgets.remember)
        let changed = try await writeRecord(key, deadline) { [surroundings] session throws(MemoryError) -> Changed? in
            let events = EventRepository(session: session)
            guard let old = try events.locked(key), !old.hasExpired(at: surroundings.now) else { return nil }
            let new = patch.applied(to: old)
            let (lease, version) = try events.replace(old, with: new, lease: OutboxWorker.inlineLease)
            let supplied = try events.suppliedEmbeddings([id])[id]
            return Changed(record: new, version: version, supplied: supplied, lease: lease)
        }
        guard let changed else { throw Self.missing }
        _ = await index([changed], deadline)
        return changed.record
    }

    /// What a memory was before each change, oldest first; the present version is not among them.
    ///
    /// - Throws: ``MemoryError`` with `not_found` when the client has no such memory, or it has expired.
    public func history(of id: Int64, client: Int) async throws(MemoryError) -> [MemoryVersion] {
        let key = try key(id, client)
        let deadline = Deadline.after(configuration.budgets.recall)
        let history = try await database.read(deadline: deadline) {
            [surroundings] session throws(MemoryError) -> [MemoryVersion]? in
            let events = EventRepository(session: session)
            guard let record = try events.memories([key]).first, !record.hasExpired(at: surroundings.now) else {
                return nil
            }
            return try events.history(key)
        }
        guard let history else { throw Self.missing }
        return history
    }

    /// Forgets one memory of a client, in all stores. When a copy cannot be removed now, the outbox does it later; no
    /// recall finds it in between.
    ///
    /// - Throws: ``MemoryError`` with `not_found` when the client has no such memory, which is so after the first time.
    public func delete(_ id: Int64, client: Int) async throws(MemoryError) {
        let key = try key(id, client)
        let deadline = Deadline.after(configuration.budgets.remember)
        let lease = try await writeRecord(key, deadline) { session throws(MemoryError) in
            try EventRepository(session: session).delete(key, lease: OutboxWorker.inlineLease)
        }
        guard let lease else { throw Self.missing }
        let pointErrors = await removePoints([lease], deadline)
        let cacheError = await dropFromCache([key])
        settle([lease], pointErrors, cacheError: cacheError)
    }

    private func writeRecord<Value: Sendable>(
        _ key: RecordKey, _ deadline: Deadline,
        _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        do throws(MemoryError) {
            return try await database.write(deadline: deadline.capped(at: configuration.budgets.transaction), body)
        } catch {
            await doubt(error, [key], of: [key.clientID])
            throw error
        }
    }

    /// After a write of which nobody knows whether it was done: what was cached before may be old, and goes.
    func doubt(_ error: MemoryError, _ keys: [RecordKey] = [], of clientIDs: Set<Int>) async {
        guard error.outcome == .unknown else { return }
        try? await cache.drop(keys, of: clientIDs, deadline: .after(configuration.budgets.writeCache))
    }

    /// Removes the points of leased rows, those of a collection together.
    func removePoints(_ leases: [OutboxRepository.Lease], _ deadline: Deadline) async -> [MemoryError?] {
        let budget = PointDelivery.Budget(
            embedding: configuration.budgets.embedContent, vectors: configuration.budgets.writeVector)
        return await concurrently(leases) { lease in
            do throws(MemoryError) {
                try await self.delivery.remove(
                    lease.key.id, from: VectorCollection(lease.collection), budget: budget,
                    deadline: min(deadline, lease.end))
                return nil
            } catch {
                return error
            }
        }
    }

    private func dropFromCache(_ keys: [RecordKey]) async -> MemoryError? {
        do throws(MemoryError) {
            try await cache.drop(
                keys, of: Set(keys.map(\.clientID)), deadline: .after(configuration.budgets.writeCache))
            return nil
        } catch {
            return error
        }
    }

    /// Tells the outbox what became of rows that were ours.
    func settle(_ leases: [OutboxRepository.Lease], _ pointErrors: [MemoryError?], cacheError: MemoryError?) {
        for (lease, pointError) in zip(leases, pointErrors) {
            if let error = pointError ?? cacheError {
                outbox.failed(lease, error, isStored: pointError == nil)
            } else {
                outbox.delivered(lease)
            }
        }
    }

    static let missing = MemoryError(.notFound, "Entity not found")

    /// - Throws: ``MemoryError`` with `not_found` for an id that no memory can have.
    private func key(_ id: Int64, _ client: Int) throws(MemoryError) -> RecordKey {
        try Limits.check(clientID: client)
        try Limits.check(rowID: id)
        return RecordKey(id: id, clientID: client)
    }
}
