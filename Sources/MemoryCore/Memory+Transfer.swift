extension Memory {
    /// How many there are.
    public struct Statistics: Sendable {
        /// Memories of all clients.
        public let memories: Int
        /// Clients that have memories.
        public let clients: Int
        /// Memories whose vector is still owed.
        public let outboxPending: Int
        /// Memories whose vector was given up on.
        public let outboxDead: Int
    }

    /// Counts what the primary store holds.
    public func statistics() async throws(MemoryError) -> Statistics {
        try await longRead { session throws(MemoryError) in
            let (memories, clients) = try EventRepository(session: session).counts()
            let outbox = try OutboxRepository(session: session).counts()
            return Statistics(
                memories: memories, clients: clients, outboxPending: outbox.pending, outboxDead: outbox.dead)
        }
    }

    /// Reads what may take long, where no request waits for it.
    private func longRead<Value: Sendable>(
        _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        try await Lane.background.run { () throws(MemoryError) in
            try await database.read(deadline: .after(.seconds(60)), body)
        }
    }

    /// How many vectors are owed, and how many were given up on.
    public func outboxCounts() async throws(MemoryError) -> (pending: Int, dead: Int) {
        try await read { session throws(MemoryError) in try OutboxRepository(session: session).counts() }
    }

    /// How many values short-term memory has dropped because it was full; nil while it is away.
    public func evictedKeys() async -> Int? {
        try? await cache.store.evicted(deadline: .after(.milliseconds(500)))
    }

    // MARK: Export and import

    /// Hands out every memory as a line of JSON (NDJSON without the newline), in the order they were stored.
    ///
    /// Memory use does not depend on how many there are. The line is what
    /// ``importLines(_:)`` takes.
    @concurrent
    public func export(
        of owners: Owners, _ body: @concurrent (_ lines: [[UInt8]]) async throws -> Void
    ) async throws {
        try owners.validate()
        var last: Int64 = 0
        while true {
            let start = last
            let (records, vectors) = try await longRead { session throws(MemoryError) in
                let events = EventRepository(session: session)
                let records = try events.page(after: start, of: owners, limit: 500)
                return (records, try events.suppliedEmbeddings(records.map(\.id)))
            }
            guard let newest = records.last else { return }
            last = newest.id
            try await body(records.map { $0.exported(embedding: vectors[$0.id]) })
        }
    }

    /// Stores memories from lines that ``export(of:_:)`` gave, up to 256 at once. They get new ids and keep the moment
    /// they were first stored.
    ///
    /// `clients`: whose they may be; a line that names another fails, one that names none is the only one's.
    /// - Returns: a receipt or an error for each line.
    public func importLines(
        _ lines: [[UInt8]], of clients: Clients
    ) async throws(MemoryError) -> [Result<RememberReceipt, MemoryError>] {
        let drafts = lines.map { line in
            Result { () throws(MemoryError) in
                var object = try JSONObject(request: line)
                if let only = clients.single { object["client_id"] = object["client_id"] ?? .int(Int64(only)) }
                if case .only = clients {
                    let named = object["client_id"]?.int.flatMap { Int(exactly: $0) }
                    guard let named, clients.contains(named) else {
                        throw MemoryError(
                            .forbidden, "client_id must be the client that is imported to", field: "client_id")
                    }
                }
                return try MemoryDraft(exported: object)
            }
        }
        return try await Lane.background.run { () throws(MemoryError) in try await remember(drafts) }
    }

    // MARK: Reindexing

    /// Makes every vector again from the records, and reports progress as (done, total) until all are made.
    ///
    /// What is to be done is in the outbox: when this is interrupted, it goes on with the next start, or the next call
    /// with `resuming`.
    ///
    /// - Returns: how many vectors could not be made and were given up on.
    public func reindex(
        resuming: Bool = false, progress: (_ done: Int, _ total: Int) -> Void
    ) async throws -> Int {
        if !resuming {
            _ = try await Lane.background.run { () throws(MemoryError) in
                try await database.write(deadline: .after(.seconds(600))) { session throws(MemoryError) in
                    // More rows than any statement of a request has.
                    if session.dialect == .postgres { try session.script("SET LOCAL statement_timeout = 0") }
                    return try OutboxRepository(session: session).enqueueAll()
                }
            }
        }
        var total = 0
        while true {
            try Task.checkCancellation()
            let now = try await longRead { session throws(MemoryError) in
                try OutboxRepository(session: session).counts()
            }
            total = max(total, now.pending)
            progress(total - now.pending, total)
            guard now.pending > 0 else { return now.dead }
            try await surroundings.sleep(for: .milliseconds(200))
        }
    }
}

extension MemoryRecord {
    /// The record as a line of an export, with the vector that was supplied for it.
    fileprivate func exported(embedding: [Float]?) -> [UInt8] {
        guard let embedding else { return encoded }
        var writer = JSONWriter(capacity: 20_000)
        writer.beginObject()
        writer.key("client_id")
        writer.int(clientID)
        writeMembers(to: &writer)
        writer.key("embedding")
        writer.json(.array(embedding.map { .double(Double($0)) }))
        writer.endObject()
        return writer.bytes
    }
}
