/// What a memory was before a change.
public struct MemoryVersion: Sendable {
    /// 1 for the first.
    public let version: Int
    /// Its text.
    public let content: String
    /// Its labels.
    public let tags: [String]
    /// Its metadata.
    public let metadata: JSONObject
    /// When it was replaced.
    public let changedAt: Timestamp
}
