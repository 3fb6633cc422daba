extension Memory {
    /// Stores a reflection on a day or a week; recall finds it among `daily_threads`. An idempotency key is as for a remember.
    public func reflect(
        _ content: String, client: Int, on reflection: RecordKind.Reflection, idempotencyKey: String? = nil
    ) async throws(MemoryError) -> RememberReceipt {
        var draft = MemoryDraft(clientID: client, content: content, type: "reflection")
        draft.kind = .reflection(reflection)
        return try await remember(draft, idempotencyKey: idempotencyKey)
    }

    /// A client's reflections, newest first.
    public func reflections(
        client: Int, mode: RecordKind.Reflection.Mode? = nil, page: PageRequest = PageRequest()
    ) async throws(MemoryError) -> Page<MemoryRecord> {
        try Limits.check(clientID: client)
        try page.validate()
        let rows = try await read { session throws(MemoryError) in
            try EventRepository(session: session).reflections(clientID: client, mode: mode, page: page)
        }
        return page.page(rows, id: \.id)
    }

    /// Stores what an extractor has distilled; recall finds it among `agent_memories`. One of the same id is replaced, and
    /// kept in its history.
    ///
    /// - Parameters:
    ///   - draft: what was distilled.
    ///   - id: the extractor's own id, at most 256 bytes.
    ///   - idempotencyKey: as for a remember; the same key and draft give the first receipt again, and replace nothing.
    /// - Returns: as for a remember.
    /// - Throws: ``MemoryError``; where it has an `outcome`, that says whether it was stored.
    public func rememberDistilled(
        _ draft: MemoryDraft, id: String, idempotencyKey: String? = nil
    ) async throws(MemoryError) -> RememberReceipt {
        var draft = draft
        draft.kind = .agentMemory(id: id)
        try draft.validate()
        let finished = draft
        for attempt in 0... {
            if idempotencyKey == nil, let receipt = try await replaceDistilled(finished) { return receipt }
            do throws(MemoryError) {
                return try await remember(finished, idempotencyKey: idempotencyKey)
            } catch {
                // Another call stored the same id in between: now there is one to replace. A conflict that is none of the
                // database's is one of keys.
                guard error.code == .conflict, error.driverCode != nil, attempt < 3 else { throw error }
            }
        }
        throw .unavailable(database.name, "an id that is stored and deleted over and over")
    }

    /// The id of an agent memory that comes without one: with an idempotency key, the same for the same key and draft.
    package static func distilledID(_ draft: MemoryDraft, idempotencyKey: String) -> String {
        sha256(idempotencyKey, MemoryDraft.digest([draft]).hex).prefix(16).map { $0 }.hex
    }

    private func replaceDistilled(_ draft: MemoryDraft) async throws(MemoryError) -> RememberReceipt? {
        let deadline = Deadline.after(configuration.budgets.remember)
        let changed = try await database.write(deadline: deadline.capped(at: configuration.budgets.transaction)) {
            session throws(MemoryError) in
            try EventRepository(session: session).replaceAgentMemory(draft)
        }
        guard let changed else { return nil }
        return await index([changed], deadline).first
    }
}
