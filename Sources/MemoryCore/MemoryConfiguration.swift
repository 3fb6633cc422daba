/// Everything that can be set about a memory. Each part has the defaults of servers on this machine.
public struct MemoryConfiguration: Sendable {
    /// Where a kind of data lies.
    public enum Place: Sendable {
        /// In this process, and in a file where it must last.
        case embedded
        /// On a server.
        case server
    }

    /// Where records lie: the truth.
    public var records = Place.server
    /// Where vectors lie.
    public var vectors = Place.server
    /// Where short-term memory lies.
    public var shortTerm = Place.server
    /// The file of what is embedded.
    public var embedded = EmbeddedConfiguration()
    /// The primary store, when records lie on a server.
    public var postgres = PostgresConfiguration()
    /// The vector store, when vectors lie on a server.
    public var qdrant = QdrantConfiguration()
    /// Short-term memory, when it lies on a server.
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
    /// Channels of Valkey whose messages become events.
    public var followedChannels: [String] = []
    /// Keys for everything, beside those that the primary store keeps.
    public var apiKeys: [Secret] = []
    /// How long things may take.
    public var budgets = Budgets()
    /// Whether points that stand for no record are looked for and removed. Off where several primary stores share
    /// collections, which tests do: each would remove the others' points.
    package var reconciles = true

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
        public var searchVectors: Duration = .milliseconds(150)
        /// After so long of searching vectors, full text is searched beside them, in case they take longer than they may.
        public var hedge: Duration = .milliseconds(60)
        /// Reading records.
        public var readRecords: Duration = .milliseconds(250)
        /// The full text that answers a degraded recall.
        public var searchText: Duration = .milliseconds(400)
        /// Reading from short-term memory within a request: past it, the cache is slower than what it saves.
        public var readCache: Duration = .milliseconds(50)
        /// Writing to short-term memory. What takes longer is left to the outbox.
        public var writeCache: Duration = .milliseconds(100)
        /// Counting a call against its rate in short-term memory. What takes longer is counted in this process alone.
        public var countCall: Duration = .milliseconds(20)

        /// The defaults.
        public init() {}

        /// Embedded vectors are read from their file by the first recall of a client, a second or two for 100,000 of them:
        /// better slow once than refused.
        mutating func allowForReadingVectors() {
            recall = .seconds(10)
            searchVectors = .seconds(8)
            hedge = .seconds(8)
            readRecords = .seconds(2)
        }
    }

    /// The three servers, on this machine.
    public init() {}

    /// Everything in this process and one file, which is made when it is not there: nothing to install or start.
    public static func embedded(at path: String) -> MemoryConfiguration {
        var configuration = MemoryConfiguration()
        (configuration.records, configuration.vectors, configuration.shortTerm) = (.embedded, .embedded, .embedded)
        configuration.embedded.path = path
        configuration.budgets.allowForReadingVectors()
        return configuration
    }
}

/// The file of embedded stores, and how much memory they may use.
public struct EmbeddedConfiguration: Sendable {
    /// The file of records and vectors.
    public var path = "./memory-data/memory.db"
    /// The most that short-term memory may take, in bytes.
    public var maxCacheBytes = 200 << 20
    /// The most that vectors may take in memory, in bytes; what is beyond is read from the file for each recall. A vector of
    /// 1536 numbers takes 3 KiB.
    public var maxVectorBytes = 320 << 20

    /// The defaults.
    public init() {}
}
