/// A prompt template to store.
public struct TemplateDraft: Sendable {
    /// Its name, at most 100 characters.
    public var name: String
    /// Its type, at most 50 characters; nil keeps that of the version before, or `custom` for the first.
    public var type: String?
    /// The prompt, at most 256 KiB.
    public var content: String
    /// Settings that come with it, at most 16 KiB of JSON.
    public var metadata = JSONObject()

    /// A template.
    public init(name: String, type: String? = nil, content: String) {
        self.name = name
        self.type = type
        self.content = content
    }

    func validate() throws(MemoryError) {
        try Limits.check(name, "template_name", maxCharacters: 100)
        if let type { try Limits.check(type, "template_type", maxCharacters: 50) }
        try Limits.check(content, "content", maxBytes: 256 << 10)
        try Limits.check(metadata: metadata)
    }
}

/// One version of a prompt template.
public struct Template: Sendable {
    let rowID: Int64
    /// Its name.
    public let name: String
    /// Its type: `system` for those that come with the gateway.
    public let type: String
    /// The prompt.
    public let content: String
    /// `v1`, `v2`, … .
    public let version: String
    /// Settings that come with it.
    public let metadata: JSONObject
    /// When it was stored.
    public let createdAt: Timestamp
}
