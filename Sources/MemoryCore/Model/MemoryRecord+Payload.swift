/// How a record lies in an `events` row: `event_type` is `memory:<type>`, `agent_memory:<type>` or `reflection`, the rest
/// is in `payload`, and the caller's metadata in `metadata`.
enum EventType {
    static let memoryPrefix = "memory:"
    static let agentMemoryPrefix = "agent_memory:"
    static let reflection = "reflection"
    static let source = "memory-gateway"

    static func of(_ kind: RecordKind, type: String) -> String {
        switch kind {
        case .memory: memoryPrefix + type
        case .agentMemory: agentMemoryPrefix + type
        case .reflection: reflection
        }
    }

    /// Where the vector of a row lies, and the memory type it stands for; nil for a row that is no record.
    static func read(_ eventType: String) -> (source: RecallRequest.Source, type: String)? {
        if eventType.hasPrefix(memoryPrefix) { return (.events, String(eventType.dropFirst(memoryPrefix.count))) }
        if eventType.hasPrefix(agentMemoryPrefix) {
            return (.agentMemories, String(eventType.dropFirst(agentMemoryPrefix.count)))
        }
        return eventType == reflection ? (.dailyThreads, reflection) : nil
    }
}

extension MemoryDraft {
    /// The `payload` column.
    func payload(now: Timestamp) -> JSONObject { MemoryRecord(self, id: 0, createdAt: now).payload }
}

extension MemoryRecord {
    /// The `payload` column.
    var payload: JSONObject {
        var payload: JSONObject = [
            "content": .string(content), "memory_type": .string(type), "memory_scope": .string(scope.rawValue),
            "tags": .array(tags.map(JSON.string)),
        ]
        for member in kind.members.members { payload[member.key] = member.value }
        payload["session_id"] = sessionID.map(JSON.string)
        payload["run_id"] = runID.map(JSON.string)
        payload["occurred_at"] = occurredAt.map { .string($0.description) }
        payload["expires_at"] = expiresAt.map { .string($0.description) }
        return payload
    }
}

extension MemoryRecord {
    /// The record as what it is to an observer, without what it says.
    var event: Event {
        Event(
            id: id, type: EventType.of(kind, type: type), source: EventType.source, clientID: clientID, payload: .null,
            metadata: .null, createdAt: createdAt)
    }

    /// A record from its row; nil when the row is none of ours, as other programs write to the table too.
    init?(id: Int64, clientID: Int, eventType: String, payload: String, metadata: String?, createdAt: Int64) {
        guard let (source, type) = EventType.read(eventType), let fields = Self.object(payload),
            let content = fields["content"]?.string, let kind = RecordKind(source: source, members: fields)
        else { return nil }
        self.init(
            id: id, clientID: clientID, kind: kind, content: content, type: type,
            scope: fields["memory_scope"]?.string.flatMap(MemoryScope.init) ?? .user,
            sessionID: fields["session_id"]?.string, runID: fields["run_id"]?.string,
            tags: fields["tags"]?.array?.compactMap(\.string) ?? [],
            metadata: metadata.flatMap(Self.object) ?? JSONObject(),
            occurredAt: fields["occurred_at"]?.string.flatMap { Timestamp($0) },
            expiresAt: fields["expires_at"]?.string.flatMap { Timestamp($0) },
            createdAt: Timestamp(microseconds: createdAt))
    }

    /// Other programs may have written deeper objects than our edge lets in.
    private static func object(_ text: String) -> JSONObject? {
        (try? JSON.parse(Array(text.utf8), maxDepth: 128))?.object
    }
}
