/// Something to remember.
public struct MemoryDraft: Sendable {
    /// Whose memory it is, 1...2,147,483,647.
    public var clientID: Int
    /// The text, 1...65,536 bytes of UTF-8. It is stored as given.
    public var content: String
    /// Free text of at most 50 characters; in use are fact, event, preference, observation, decision, episode, reflection.
    public var type: String
    /// How far the memory reaches.
    public var scope: MemoryScope
    /// The conversation it comes from, at most 256 bytes. Recall ranks the memories of one session together.
    public var sessionID: String?
    /// The agent run it comes from, at most 256 bytes.
    public var runID: String?
    /// At most 64 labels of at most 256 bytes.
    public var tags: [String]
    /// Anything else, at most 16 KiB of JSON.
    public var metadata: JSONObject
    /// When what it tells happened, if not now.
    public var occurredAt: Timestamp?
    /// When to forget it; nil keeps it.
    public var expiry: Expiry?
    /// What kind of record it is to be.
    public var kind = RecordKind.memory
    /// When it was first stored, for a memory that comes from an export.
    var createdAt: Timestamp?
    /// The content's vector, when the caller has it already: 1536 finite numbers, not all zero.
    public var embedding: [Float]?

    /// When a memory ends.
    public enum Expiry: Sendable {
        /// At a moment.
        case at(Timestamp)
        /// A time after it is stored.
        case after(Duration)
    }

    /// A memory of a client; everything but the text and the client has a default.
    public init(clientID: Int, content: String, type: String = "fact", scope: MemoryScope = .user) {
        self.clientID = clientID
        self.content = content
        self.type = type
        self.scope = scope
        self.tags = []
        self.metadata = JSONObject()
    }
}

/// How far a memory reaches.
public enum MemoryScope: String, Sendable, CaseIterable {
    /// One run of an agent.
    case run
    /// One conversation.
    case session
    /// Everything about one user.
    case user
    /// A project.
    case project
    /// Everyone who shares the client.
    case global
}
