/// How a memory lies in an `events` row: `event_type` is `memory:<type>`, the rest is in `payload`, and the caller's
/// metadata in `metadata`.
enum EventType {
    static let memoryPrefix = "memory:"
    static let source = "memory-gateway"

    static func of(memoryType: String) -> String { memoryPrefix + memoryType }
}

extension MemoryDraft {
    /// The `payload` column.
    func payload(now: Timestamp) -> JSONObject {
        var payload: JSONObject = [
            "content": .string(content), "memory_type": .string(type), "memory_scope": .string(scope.rawValue),
            "tags": .array(tags.map(JSON.string)),
        ]
        payload["session_id"] = sessionID.map(JSON.string)
        payload["run_id"] = runID.map(JSON.string)
        payload["occurred_at"] = occurredAt.map { .string($0.description) }
        payload["expires_at"] = expiry.map { .string($0.moment(from: now).description) }
        return payload
    }
}

extension MemoryRecord {
    /// A record from its row; nil when the row is none of ours, as other programs write to the table too.
    init?(id: Int64, clientID: Int, eventType: String, payload: String, metadata: String?, createdAt: Int64) {
        guard let fields = Self.object(payload), let content = fields["content"]?.string,
            eventType.hasPrefix(EventType.memoryPrefix)
        else { return nil }
        self.init(
            id: id, clientID: clientID, content: content,
            type: String(eventType.dropFirst(EventType.memoryPrefix.count)),
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
