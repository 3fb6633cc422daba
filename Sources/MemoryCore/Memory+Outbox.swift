extension Memory {
    /// A vector that was given up on.
    public struct DeadLetter: Sendable {
        /// The collection it belongs into.
        public let collection: String
        /// The record, or the chunk of a document.
        public let recordID: Int64
        /// Whose it is; 0 for a shared document.
        public let clientID: Int
        /// How often it was tried.
        public let attempts: Int
        /// What went wrong the last time: the store and the kind of failure.
        public let lastError: String
        /// When it was first asked for.
        public let createdAt: Timestamp
    }

    /// The vectors that were given up on, oldest first, at most so many.
    public func deadLetters(limit: Int = 100) async throws(MemoryError) -> [DeadLetter] {
        try await read { session throws(MemoryError) in
            try OutboxRepository(session: session).deadLetters(limit: limit)
        }
    }

    /// How long the oldest vector waits that is owed to the vector store; zero when none is.
    package func outboxAge() async throws(MemoryError) -> Duration {
        try await read { session throws(MemoryError) in try OutboxRepository(session: session).age() }
    }

    /// How long ago vectors and records were last compared.
    package var reconciliationAge: Duration { reconciler.age }

    /// Tries everything again that was given up on.
    ///
    /// - Returns: how many vectors that is.
    public func retryDeadLetters() async throws(MemoryError) -> Int {
        try await write { session throws(MemoryError) in try OutboxRepository(session: session).retryDead() }
    }

    /// Compares the vector store with the records, id by id, and has what differs put right. A running memory compares
    /// numbers once a minute by itself, and beside them a few thousand ids.
    ///
    /// - Returns: how many vectors were missing or old, and how many stood for nothing.
    public func reconcile() async throws(MemoryError) -> (missing: Int, foreign: Int) {
        let finding = try await Lane.background.run { () throws(MemoryError) in
            try await reconciler.reconcile(always: true)
        }
        return (finding.missing + finding.stale, finding.foreign)
    }
}
