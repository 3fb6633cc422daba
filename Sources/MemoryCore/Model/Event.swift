/// Something that happened, as another system reports it.
public struct EventDraft: Sendable {
    /// What happened: `task.created`. At most 100 characters; `memory:…`, `agent_memory:…` and `reflection` are taken.
    public var type: String
    /// Who reports it, at most 50 characters.
    public var source: String
    /// Whom it concerns.
    public var owner: Owner
    /// What is reported, at most 256 KiB of JSON.
    public var payload: JSONObject
    /// Anything else, at most 16 KiB of JSON.
    public var metadata = JSONObject()

    /// An event of someone, or of nobody in particular.
    public init(type: String, source: String, owner: Owner, payload: JSONObject = JSONObject()) {
        self.type = type
        self.source = source
        self.owner = owner
        self.payload = payload
    }

    func validate() throws(MemoryError) {
        try Limits.check(type, "event_type", maxCharacters: 100)
        guard EventType.read(type) == nil else {
            throw .invalid(
                "event_type \(type) is stored by remember, agent-memories and reflections", field: "event_type")
        }
        try Limits.check(source, "event_source", maxCharacters: 50)
        try owner.validate()
        try Limits.check(metadata: payload, field: "payload", maxBytes: 256 << 10)
        try Limits.check(metadata: metadata)
    }
}

/// A row of `events`: what another system reported, or a memory.
public struct Event: Sendable {
    /// Its id; a memory's is the memory's id.
    public let id: Int64
    /// What happened.
    public let type: String
    /// Who reported it.
    public let source: String
    /// Whom it concerns.
    public let clientID: Int?
    /// What was reported.
    public let payload: JSON
    /// Anything else.
    public let metadata: JSON
    /// When it was stored.
    public let createdAt: Timestamp
}

/// Which events are wanted. Everything that is set must hold.
public struct EventFilter: Sendable {
    /// Whom they concern.
    public var owners: Owners
    /// What happened.
    public var type: String?
    /// Who reported it.
    public var source: String?
    /// Stored at this moment or later.
    public var since: Timestamp?
    /// Stored at this moment or earlier.
    public var until: Timestamp?

    /// All events of some owners.
    public init(of owners: Owners) { self.owners = owners }

    func validate() throws(MemoryError) { try owners.validate() }
}

/// How many events there are.
public struct EventStatistics: Sendable {
    /// All.
    public let total: Int
    /// By type, most first.
    public let byType: [(name: String, count: Int)]
    /// By source, most first.
    public let bySource: [(name: String, count: Int)]
}
