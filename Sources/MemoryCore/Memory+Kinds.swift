extension Memory {
    /// Stores a reflection on a day or a week; recall finds it among `daily_threads`.
    public func reflect(
        _ content: String, client: Int, on reflection: RecordKind.Reflection
    ) async throws(MemoryError) -> RememberReceipt {
        var draft = MemoryDraft(clientID: client, content: content, type: "reflection")
        draft.kind = .reflection(reflection)
        return try await remember(draft)
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
    /// `id`: the extractor's own id, at most 256 bytes.
    public func rememberDistilled(
        _ draft: MemoryDraft, id: String
    ) async throws(MemoryError) -> RememberReceipt {
        var draft = draft
        draft.kind = .agentMemory(id: id)
        try draft.validate()
        let finished = draft
        for attempt in 0... {
            if let receipt = try await replaceDistilled(finished, id) { return receipt }
            do throws(MemoryError) {
                return try await remember(finished)
            } catch {
                // Another call stored the same id in between: now there is one to replace.
                guard error.code == .conflict, attempt < 3 else { throw error }
            }
        }
        throw .unavailable(database.name, "an id that is stored and deleted over and over")
    }

    private func replaceDistilled(_ draft: MemoryDraft, _ id: String) async throws(MemoryError) -> RememberReceipt? {
        let deadline = Deadline.after(configuration.budgets.remember)
        let changed = try await database.write(deadline: deadline.capped(at: configuration.budgets.transaction)) {
            session throws(MemoryError) -> Changed? in
            let events = EventRepository(session: session)
            guard let rowID = try events.agentMemory(id, clientID: draft.clientID),
                let old = try events.locked(RecordKey(id: rowID, clientID: draft.clientID))
            else { return nil }
            let new = MemoryRecord(draft, id: rowID, createdAt: old.createdAt)
            let (lease, version) = try events.replace(old, with: new, lease: OutboxWorker.inlineLease)
            return Changed(record: new, version: version, supplied: draft.embedding, lease: lease)
        }
        guard let changed else { return nil }
        return await index([changed], deadline).first
    }
}
