/// How to reach Qdrant.
public struct QdrantConfiguration: Sendable {
    /// The REST base, such as `http://127.0.0.1:6333`.
    public var url = "http://127.0.0.1:6333"
    /// Sent as `api-key`, if set.
    public var apiKey: Secret?
    /// Put in front of every collection's name, so that several systems can share a server. Empty for the names of the
    /// specification.
    public var collectionPrefix = ""
    /// How many connections to hold at most, 1...64.
    public var connections = 8

    /// The defaults: a server on this machine, without a key.
    public init() {}
}
