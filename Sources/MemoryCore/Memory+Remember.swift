import Logging

extension Memory {
    /// Remembers a text, with every other setting at its default.
    @discardableResult
    public func remember(_ content: String, client: Int) async throws(MemoryError) -> RememberReceipt {
        try await remember(MemoryDraft(clientID: client, content: content))
    }

    /// Remembers something.
    ///
    /// When this returns, the primary store has it for good. The receipt names the stores that could not take it at once;
    /// they get it later, by themselves.
    ///
    /// An idempotency key has at most 255 bytes; the same key and draft within 24 hours give the first receipt again, and
    /// store nothing.
    ///
    /// - Throws: ``MemoryError``; where it has an `outcome`, that says whether the memory was stored.
    @discardableResult
    public func remember(
        _ draft: MemoryDraft, idempotencyKey: String? = nil
    ) async throws(MemoryError) -> RememberReceipt {
        try draft.validate()
        let deadline = Deadline.after(configuration.budgets.remember)
        if let idempotencyKey {
            let receipts = try await rememberOnce([draft], idempotencyKey, deadline)
            guard let receipt = receipts.first else { throw .badReply(.postgres, "no receipt") }
            return receipt
        }
        let stored = try await insert(draft, deadline.capped(at: configuration.budgets.transaction))
        return await index([Changed(stored, supplied: draft.embedding)], deadline)[0]
    }

    /// - Throws: ``MemoryError``; one without an outcome comes of waiting for a turn that never came.
    private func insert(
        _ draft: MemoryDraft, _ deadline: Deadline
    ) async throws(MemoryError) -> EventRepository.Inserted {
        do throws(MemoryError) {
            return try await inserts.submit(draft, deadline: deadline)
        } catch {
            var error = error
            error.outcome = error.outcome ?? .notStored
            await doubt(error, of: [draft.clientID])
            throw error
        }
    }

    /// Remembers up to 256 things, each for itself: one that is invalid fails alone.
    ///
    /// - Parameters:
    ///   - drafts: what to remember; a failure stands for an item that could not even be read, and stays as it is.
    ///   - idempotencyKey: as for one; it stands for the whole batch.
    /// - Returns: a receipt or an error for each draft, in the same order.
    /// - Throws: ``MemoryError`` when the batch as a whole cannot be taken.
    public func remember(
        _ drafts: [Result<MemoryDraft, MemoryError>], idempotencyKey: String? = nil
    ) async throws(MemoryError) -> [Result<RememberReceipt, MemoryError>] {
        guard (1...Limits.batch).contains(drafts.count) else {
            throw .invalid("memories must be between 1 and \(Limits.batch)", field: "memories")
        }
        let deadline = Deadline.after(configuration.budgets.remember)
        var results: [Result<RememberReceipt, MemoryError>?] = []
        var valid: [(place: Int, draft: MemoryDraft)] = []
        for (place, draft) in drafts.enumerated() {
            do throws(MemoryError) {
                let draft = try draft.get()
                try draft.validate()
                valid.append((place, draft))
                results.append(nil)
            } catch {
                results.append(.failure(error))
            }
        }
        if !valid.isEmpty {
            let outcomes = try await store(valid.map(\.draft), idempotencyKey, deadline)
            for (item, outcome) in zip(valid, outcomes) { results[item.place] = outcome }
        }
        return results.compactMap { $0 }
    }

    /// Remembers up to 256 things, each for itself: one that is invalid fails alone.
    public func remember(_ drafts: [MemoryDraft]) async throws(MemoryError) -> [Result<RememberReceipt, MemoryError>] {
        try await remember(drafts.map { .success($0) })
    }

    private func store(
        _ drafts: [MemoryDraft], _ idempotencyKey: String?, _ deadline: Deadline
    ) async throws(MemoryError) -> [Result<RememberReceipt, MemoryError>] {
        if let idempotencyKey {
            return try await rememberOnce(drafts, idempotencyKey, deadline).map { .success($0) }
        }
        let inserted = await writer.insert(drafts, deadline.capped(at: configuration.budgets.transaction))
        for case .failure(let error) in inserted where error.outcome == .unknown {
            await doubt(error, of: Set(drafts.map(\.clientID)))
            break
        }
        // When the store itself is away nothing was stored, and the whole batch fails as one.
        if case .failure(let error)? = inserted.first, error.store?.isPrimary == true,
            inserted.allSatisfy({ if case .failure = $0 { true } else { false } })
        {
            throw error
        }
        var stored: [Changed] = []
        for (draft, result) in zip(drafts, inserted) {
            if case .success(let inserted) = result {
                stored.append(Changed(inserted, supplied: draft.embedding))
            }
        }
        var receipts = await index(stored, deadline)[...]
        return inserted.map { result in result.map { _ in receipts.removeFirst() } }
    }

    // MARK: Indexing

    /// A record that the primary store has, and that must reach the others.
    struct Changed: Sendable {
        let record: MemoryRecord
        /// How often it was written.
        let version: Int64
        let supplied: [Float]?
        let lease: OutboxRepository.Lease

        init(record: MemoryRecord, version: Int64, supplied: [Float]?, lease: OutboxRepository.Lease) {
            self.record = record
            self.version = version
            self.supplied = supplied
            self.lease = lease
        }

        /// A record that was just inserted.
        init(_ inserted: EventRepository.Inserted, supplied: [Float]?) {
            self.init(record: inserted.record, version: 1, supplied: supplied, lease: inserted.lease)
        }
    }

    /// Writes points, records and new generations; what fails is left to the outbox.
    func index(_ changed: [Changed], _ deadline: Deadline) async -> [RememberReceipt] {
        let pointErrors = await concurrently(changed) { item in await self.storePoint(item, deadline) }
        var cacheError: MemoryError?
        do throws(MemoryError) {
            // After the points: a recall that the new generation lets in must find them.
            try await cache.keep(changed.map(\.record), deadline: .after(configuration.budgets.writeCache))
        } catch {
            cacheError = error
        }
        signals.notify()
        return zip(changed, pointErrors).map { item, pointError in
            settle([item.lease], [pointError], cacheError: cacheError)
            let (stored, failed) = places(pointError: pointError, cacheError: cacheError)
            return RememberReceipt(
                memoryID: item.record.id, clientID: item.record.clientID, storedIn: stored, failed: failed,
                createdAt: item.record.createdAt)
        }
    }

    /// The stores that have what was written, and those that do not yet.
    func places(
        pointError: MemoryError?, cacheError: MemoryError?
    ) -> (stored: [MemoryError.Store], failed: [MemoryError.Store]) {
        var stored = [database.name]
        var failed: [MemoryError.Store] = []
        if pointError == nil { stored.append(vectors.name) } else { failed.append(vectors.name) }
        if cacheError == nil { stored.append(cache.store.name) } else { failed.append(cache.store.name) }
        return (stored, failed)
    }

    private func storePoint(_ item: Changed, _ deadline: Deadline) async -> MemoryError? {
        let budget = PointDelivery.Budget(
            embedding: configuration.budgets.embedContent, vectors: configuration.budgets.writeVector)
        do throws(MemoryError) {
            try await delivery.store(
                .record(item.record), version: item.version, supplied: item.supplied, budget: budget,
                deadline: min(deadline, item.lease.end))
            return nil
        } catch {
            return error
        }
    }

    // MARK: Idempotency keys

    /// Stores all drafts under a key, or answers what was stored for it before.
    private func rememberOnce(
        _ drafts: [MemoryDraft], _ key: String, _ deadline: Deadline
    ) async throws(MemoryError) -> [RememberReceipt] {
        try Limits.check(key, "Idempotency-Key", maxBytes: Limits.idempotencyKeyBytes)
        let identity = IdempotencyRepository.Key(
            clientID: drafts[0].clientID, key: key, requestHash: MemoryDraft.digest(drafts))
        let receipts: [RememberReceipt]
        let limit = deadline.capped(at: configuration.budgets.transaction)
        let keyed: MemoryWriter.Keyed
        do throws(MemoryError) {
            keyed = try await writer.insert(drafts, key: identity, limit)
        } catch {
            await doubt(error, of: Set(drafts.map(\.clientID)))
            throw error
        }
        switch keyed {
        case .stored(let stored): receipts = await index(stored, deadline)
        case .earlier(let earlier):
            if let response = earlier.response.flatMap(RememberReceipt.decode) { return response }
            receipts = try await finish(earlier, drafts, deadline)
        }
        let response = RememberReceipt.encode(receipts)
        do throws(MemoryError) {
            try await database.write(deadline: deadline.capped(at: configuration.budgets.transaction)) {
                session throws(MemoryError) in
                try IdempotencyRepository(session: session).answer(identity, response)
            }
        } catch {
            // The memories are stored; a retry finds them by the key, and answers as if it were the first.
            logger.debug("An answer could not be kept", metadata: [LogKey.error: "\(error.debugDescription)"])
        }
        return receipts
    }

    /// Finishes what a gateway that was stopped had begun. Its outbox rows are ours from now on, as after a change: what we
    /// write may come after what another call does with the same records.
    private func finish(
        _ earlier: IdempotencyRepository.Earlier, _ drafts: [MemoryDraft], _ deadline: Deadline
    ) async throws(MemoryError) -> [RememberReceipt] {
        let keys = zip(earlier.eventIDs, drafts).map { RecordKey(id: $0, clientID: $1.clientID) }
        let limit = deadline.capped(at: configuration.budgets.transaction)
        let stored = try await database.write(deadline: limit) { session throws(MemoryError) -> [Changed] in
            let (events, outbox) = (EventRepository(session: session), OutboxRepository(session: session))
            // First the rows, in the order of their ids, so that whoever changes a record from now on has a newer fence.
            var leases: [Int64: OutboxRepository.Lease] = [:]
            for (key, draft) in zip(keys, drafts).sorted(by: { $0.0.id < $1.0.id }) {
                leases[key.id] = try outbox.enqueue(
                    key, in: draft.kind.source.collection, lease: OutboxWorker.inlineLease)
            }
            let versions = try events.versions(keys.map(\.id))
            let supplied = try events.suppliedEmbeddings(keys.map(\.id))
            let records = try events.memories(keys)
            guard Set(records.map(\.id)).count == drafts.count else {
                throw MemoryError(.conflict, "This Idempotency-Key stands for memories that were deleted since")
            }
            let byID = Dictionary(records.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
            return keys.compactMap { key in
                guard let record = byID[key.id], let lease = leases[key.id] else { return nil }
                return Changed(
                    record: record, version: versions[key.id] ?? 1, supplied: supplied[key.id], lease: lease)
            }
        }
        return await index(stored, deadline)
    }
}

extension MemoryDraft {
    /// SHA-256 of everything that was asked for; the same for requests that ask for the same.
    static func digest(_ drafts: [MemoryDraft]) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginArray()
        for draft in drafts {
            writer.int(draft.clientID)
            var fields = draft.payload(now: Timestamp(microseconds: 0))
            if case .after(let duration)? = draft.expiry { fields["expires_at"] = .int(duration.nanoseconds) }
            writer.string(draft.kind.source.rawValue)
            writer.object(fields)
            writer.object(draft.metadata)
            writer.strings(draft.embedding.map { [$0.littleEndianBytes.hex] } ?? [])
        }
        writer.endArray()
        return sha256(String(decoding: writer.bytes, as: UTF8.self))
    }
}

extension RememberReceipt {
    fileprivate static func encode(_ receipts: [RememberReceipt]) -> String {
        var writer = JSONWriter()
        writer.beginArray()
        for receipt in receipts { receipt.write(to: &writer) }
        writer.endArray()
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    /// Reads what ``encode(_:)`` wrote; nil for anything else.
    fileprivate static func decode(_ text: String) -> [RememberReceipt]? {
        guard let items = (try? JSON.parse(Array(text.utf8)))?.array else { return nil }
        let receipts = items.compactMap { item -> RememberReceipt? in
            guard let id = item["memory_id"]?.int, let client = item["client_id"]?.int,
                let created = item["created_at"]?.string.flatMap({ Timestamp($0) })
            else { return nil }
            func stores(_ key: String) -> [MemoryError.Store] {
                (item[key]?.array ?? []).compactMap(\.string).map(MemoryError.Store.init)
            }
            return RememberReceipt(
                memoryID: id, clientID: Int(clamping: client), storedIn: stores("stored_in"), failed: stores("failed"),
                createdAt: created)
        }
        return receipts.count == items.count ? receipts : nil
    }
}
