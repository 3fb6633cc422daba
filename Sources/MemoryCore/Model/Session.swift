/// One message of a conversation.
public struct SessionMessage: Sendable {
    /// Who says it: `user`, `assistant`, `tool`, … . At most 50 characters.
    public var role: String
    /// What is said, 1...65,536 bytes.
    public var content: String
    /// Anything else, at most 16 KiB of JSON.
    public var metadata: JSONObject
    /// When it was stored; nil before.
    public internal(set) var createdAt: Timestamp?

    /// A message.
    public init(role: String, content: String, metadata: JSONObject = JSONObject()) {
        self.role = role
        self.content = content
        self.metadata = metadata
    }

    func validate() throws(MemoryError) {
        try Limits.check(role, "role", maxCharacters: 50)
        try Limits.check(content: content)
        try Limits.check(metadata: metadata)
    }

    /// The message as one JSON object.
    package var json: JSONObject {
        var object: JSONObject = [
            "role": .string(role), "content": .string(content), "metadata": .object(metadata),
        ]
        object["created_at"] = createdAt.map { .string($0.description) }
        return object
    }

    /// Reads what ``json`` gave.
    init?(encoded: [UInt8]) {
        guard let fields = try? JSON.parse(encoded, maxDepth: 128), let role = fields["role"]?.string,
            let content = fields["content"]?.string
        else { return nil }
        self.init(role: role, content: content, metadata: fields["metadata"]?.object ?? JSONObject())
        createdAt = fields["created_at"]?.string.flatMap { Timestamp($0) }
    }
}
