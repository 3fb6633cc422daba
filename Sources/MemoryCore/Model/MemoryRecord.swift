/// A memory as it is stored.
public struct MemoryRecord: Sendable {
    /// The id of its row in `events`, and of its point in the vector store.
    public var id: Int64
    /// Whose memory it is.
    public var clientID: Int
    /// What kind of record it is.
    public var kind: RecordKind
    /// The text, as it was given.
    public var content: String
    /// fact, preference, … .
    public var type: String
    /// How far it reaches.
    public var scope: MemoryScope
    /// The conversation it comes from.
    public var sessionID: String?
    /// The agent run it comes from.
    public var runID: String?
    /// Labels.
    public var tags: [String]
    /// The caller's own data.
    public var metadata: JSONObject
    /// When what it tells happened, if the caller said.
    public var occurredAt: Timestamp?
    /// When it ends.
    public var expiresAt: Timestamp?
    /// When it was stored.
    public var createdAt: Timestamp

    /// Whether it has ended.
    func hasExpired(at moment: Timestamp) -> Bool { expiresAt.map { $0 <= moment } ?? false }
}

extension MemoryRecord {
    init(_ draft: MemoryDraft, id: Int64, createdAt: Timestamp) {
        self.init(
            id: id, clientID: draft.clientID, kind: draft.kind, content: draft.content, type: draft.type,
            scope: draft.scope,
            sessionID: draft.sessionID, runID: draft.runID, tags: draft.tags, metadata: draft.metadata,
            occurredAt: draft.occurredAt, expiresAt: draft.expiry?.moment(from: createdAt), createdAt: createdAt)
    }
}

extension MemoryDraft.Expiry {
    func moment(from start: Timestamp) -> Timestamp {
        switch self {
        case .at(let moment): moment.sayable
        case .after(let duration): start.advanced(by: duration).sayable
        }
    }
}

// MARK: What recall ranks by

extension MemoryRecord {
    /// What groups the turns of one conversation: the session, the run, or what callers without these fields are known to
    /// put into metadata.
    var sessionKey: String? {
        if let sessionID { return sessionID }
        if let runID { return runID }
        for key in ["session_id", "session", "conversation_id", "thread_id"] {
            switch metadata[key] {
            case .string(let text)? where !text.isEmpty: return String(text.prefix(Limits.identifierBytes))
            case .int(let number)?: return String(number)
            default: continue
            }
        }
        return nil
    }

    /// When what it tells happened: as the caller said, else as metadata says in a usual place, else when it was stored.
    var moment: Timestamp {
        if let occurredAt { return occurredAt }
        for key in ["occurred_at", "datetime", "timestamp", "date"] {
            if let text = metadata[key]?.string, let moment = Timestamp(text) { return moment }
        }
        return createdAt
    }

    /// Who speaks, in content such as `Ada: I moved to Turin`, lowercase; nil where it begins otherwise.
    var speaker: String? {
        guard let colon = content.prefix(41).firstIndex(of: ":") else { return nil }
        let name = content[..<colon]
        let isName =
            name.first?.isUppercase == true && name.split(separator: " ").count <= 3
            && name.allSatisfy { $0.isLetter || $0 == " " || $0 == "." || $0 == "-" || $0 == "'" }
        return isName ? name.lowercased() : nil
    }
}
