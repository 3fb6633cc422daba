/// A question to the memory of one client.
public struct RecallRequest: Sendable {
    /// How candidates are found.
    public enum Mode: String, Sendable, CaseIterable {
        /// By meaning and by words, fused.
        case hybrid
        /// By meaning alone.
        case dense
        /// By words alone.
        case keyword
    }

    /// Where memories lie.
    public enum Source: String, Sendable, CaseIterable {
        /// What was remembered.
        case events
        /// What an extractor has distilled.
        case agentMemories = "agent_memories"
        /// Daily and weekly reflections.
        case dailyThreads = "daily_threads"
    }

    /// The question, 1...8,192 bytes.
    public var query: String
    /// Whose memory is asked, 1...2,147,483,647.
    public var clientID: Int
    /// How many memories to find at most, 1...100.
    public var limit: Int
    /// How to search.
    public var mode: Mode
    /// Where to search; not empty.
    public var sources: [Source]
    /// Only memories that pass.
    public var filter: RecallFilter
    /// Only memories whose `score` is at least this.
    public var minScore: Double?

    /// A question with the usual settings.
    public init(query: String, clientID: Int, limit: Int = 5) {
        self.query = query
        self.clientID = clientID
        self.limit = limit
        self.mode = .hybrid
        self.sources = Source.allCases
        self.filter = RecallFilter()
    }

    func validate() throws(MemoryError) {
        try Limits.check(clientID: clientID)
        try validateQuestion()
    }

    /// All but the client, which may be nobody in a search of shared documents.
    func validateQuestion() throws(MemoryError) {
        try Limits.check(query, "query", maxBytes: Limits.queryBytes)
        guard Limits.results.contains(limit) else {
            throw .invalid("k must be between 1 and \(Limits.results.upperBound)", field: "k")
        }
        guard (1...Source.allCases.count).contains(sources.count) else {
            throw .invalid("sources must be between 1 and \(Source.allCases.count)", field: "sources")
        }
        if let minScore, !minScore.isFinite { throw .invalid("min_score must be a number", field: "min_score") }
        try filter.validate()
    }
}

/// Which memories may answer. Everything that is set must hold.
public struct RecallFilter: Sendable {
    /// The memory's type.
    public var type: String?
    /// One of these scopes.
    public var scopes: [MemoryScope] = []
    /// The memory's session.
    public var sessionID: String?
    /// All of these tags.
    public var tags: [String] = []
    /// Happened at this moment or later.
    public var since: Timestamp?
    /// Happened at this moment or earlier.
    public var until: Timestamp?
    /// Metadata that has all of these members, with equal values.
    public var metadata = JSONObject()

    /// Lets everything pass.
    public init() {}

    /// Whether everything passes.
    var isEmpty: Bool {
        type == nil && scopes.isEmpty && sessionID == nil && tags.isEmpty && since == nil && until == nil
            && metadata.isEmpty
    }

    func validate() throws(MemoryError) {
        if let type { try Limits.check(type: type) }
        if let sessionID { try Limits.check(sessionID, "session_id", maxBytes: Limits.identifierBytes) }
        try Limits.check(tags: tags)
        guard metadata.members.count <= Limits.filterMembers else {
            throw .invalid("metadata must have at most \(Limits.filterMembers) members", field: "metadata")
        }
        try Limits.check(metadata: metadata)
    }

    /// Whether a record passes. Every record that is answered is checked here, whatever a vector store's copy says.
    func matches(_ record: MemoryRecord) -> Bool {
        if let type, !type.hasSameBytes(as: record.type) { return false }
        if !scopes.isEmpty, !scopes.contains(record.scope) { return false }
        if let sessionID, record.sessionID?.hasSameBytes(as: sessionID) != true { return false }
        if let since, record.moment < since { return false }
        if let until, record.moment > until { return false }
        return tags.allSatisfy { tag in record.tags.contains { $0.hasSameBytes(as: tag) } }
            && metadata.members.allSatisfy { record.metadata[$0.key] == $0.value }
    }
}
