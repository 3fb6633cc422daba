/// Everything that can be set about a memory. Each part has the defaults of servers on this machine.
public struct MemoryConfiguration: Sendable {
    /// The primary store: the truth.
    public var postgres = PostgresConfiguration()
    /// The vectors.
    public var qdrant = QdrantConfiguration()
    /// Short-term memory.
    public var valkey = ValkeyConfiguration()
    /// Where vectors come from; nil for the local lexical embedder.
    public var embeddings: EmbeddingsConfiguration?
    /// Whether a client without a profile gets one.
    public var createsClients = true
    /// Whether migrations are applied and collections created at the start.
    public var setsUpStores = true
    /// The share of meaning in hybrid recall, 0...1; the rest goes to the words. 0.6 suits small models; strong ones earn
    /// up to 0.8.
    public var denseWeight = 0.6
    /// How long things may take.
    public var budgets = Budgets()

    /// How long a call and its steps may take at most.
    public struct Budgets: Sendable {
        /// A remember, and anything else that writes.
        public var remember: Duration = .seconds(2)
        /// A recall, and anything else that reads.
        public var recall: Duration = .seconds(1)
        /// The transaction of a write.
        public var transaction: Duration = .seconds(1)
        /// The vector of new content. What takes longer is left to the outbox.
        public var embedContent: Duration = .milliseconds(600)
        /// Writing a point.
        public var writeVector: Duration = .milliseconds(300)
        /// The vector of a question. What takes longer makes the recall a degraded one.
        public var embedQuery: Duration = .milliseconds(500)
        /// Searching vectors.
        public var searchVectors: Duration = .milliseconds(250)
        /// Reading records.
        public var readRecords: Duration = .milliseconds(250)
        /// The full text that answers a degraded recall.
        public var searchText: Duration = .milliseconds(400)

        /// The defaults.
        public init() {}
    }

    /// The defaults.
    public init() {}
}
