extension MemoryRecord {
    /// Writes the members that every answer shows of a memory, into an object that is open.
    package func writeMembers(to writer: inout JSONWriter) {
        writer.key("memory_id")
        writer.int(id)
        writer.key("content")
        writer.string(content)
        writer.key("memory_type")
        writer.string(type)
        writer.key("memory_scope")
        writer.string(scope.rawValue)
        for (key, value) in [("session_id", sessionID), ("run_id", runID)] {
            guard let value else { continue }
            writer.key(key)
            writer.string(value)
        }
        if kind != .memory {
            writer.key("source")
            writer.string(kind.source.rawValue)
            for member in kind.members.members {
                writer.key(member.key == "memory_id" ? "agent_memory_id" : member.key)
                writer.json(member.value)
            }
        }
        writer.key("tags")
        writer.strings(tags)
        writer.key("metadata")
        writer.object(metadata)
        for (key, value) in [("occurred_at", occurredAt), ("expires_at", expiresAt), ("created_at", createdAt)] {
            guard let value else { continue }
            writer.key(key)
            writer.string(value.description)
        }
    }

    /// The record as one JSON object, with its client.
    package var encoded: [UInt8] {
        var writer = JSONWriter(capacity: 512)
        writer.beginObject()
        writer.key("client_id")
        writer.int(clientID)
        writeMembers(to: &writer)
        writer.endObject()
        return writer.bytes
    }

    /// Reads what ``encoded`` wrote.
    init?(encoded: [UInt8]) {
        guard let fields = try? JSON.parse(encoded, maxDepth: 128).object, let id = fields["memory_id"]?.int,
            let client = fields["client_id"]?.int, let content = fields["content"]?.string,
            let type = fields["memory_type"]?.string,
            let kind = RecordKind(
                source: fields["source"]?.string.flatMap(RecallRequest.Source.init) ?? .events, members: fields,
                agentMemoryKey: "agent_memory_id"),
            let created = fields["created_at"]?.string.flatMap(Timestamp.init)
        else { return nil }
        self.init(
            id: id, clientID: Int(clamping: client), kind: kind, content: content, type: type,
            scope: fields["memory_scope"]?.string.flatMap(MemoryScope.init) ?? .user,
            sessionID: fields["session_id"]?.string, runID: fields["run_id"]?.string,
            tags: fields["tags"]?.array?.compactMap(\.string) ?? [],
            metadata: fields["metadata"]?.object ?? JSONObject(),
            occurredAt: fields["occurred_at"]?.string.flatMap { Timestamp($0) },
            expiresAt: fields["expires_at"]?.string.flatMap { Timestamp($0) }, createdAt: created)
    }
}
