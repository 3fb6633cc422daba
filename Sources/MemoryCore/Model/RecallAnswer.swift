/// A memory that answers a question.
public struct RecallHit: Sendable {
    /// The memory.
    public var record: MemoryRecord
    /// The cosine similarity in 0...1; nil where the memory was found by its words alone.
    public var similarity: Double?
    /// What the hits are ranked by; higher is better. Comparable within one answer only.
    public var score: Double
    /// Where it was found.
    public var source: RecallRequest.Source { record.kind.source }

    package func write(to writer: inout JSONWriter) {
        writer.beginObject()
        record.writeMembers(to: &writer)
        writer.key("similarity_score")
        if let similarity { writer.double(similarity) } else { writer.null() }
        writer.key("score")
        writer.double(score)
        if record.kind == .memory {
            writer.key("source")
            writer.string(source.rawValue)
        }
        writer.endObject()
    }
}

/// The answer to a ``RecallRequest``.
public struct RecallAnswer: Sendable {
    /// How many memories were found.
    public let count: Int
    /// Whether the answer came from the recall cache.
    public let isCached: Bool
    /// Whether vectors could not be searched, and the primary store's full text answered instead.
    public let isDegraded: Bool
    /// How long it took.
    public let duration: Duration
    /// The hits as a JSON array, as the cache keeps it; the gateway passes it on as it is.
    package let encodedHits: [UInt8]
    private let clientID: Int

    /// The memories, best first.
    public var hits: [RecallHit] {
        guard let hits = try? JSON.parse(encodedHits, maxDepth: 128).array else { return [] }
        return hits.compactMap { RecallHit($0, clientID: clientID) }
    }

    init(
        _ hits: EncodedHits, clientID: Int, isCached: Bool, isDegraded: Bool, duration: Duration
    ) {
        self.count = hits.count
        self.isCached = isCached
        self.isDegraded = isDegraded
        self.duration = duration
        self.encodedHits = hits.json
        self.clientID = clientID
    }
}

/// Hits as the cache keeps them: encoded once, never decoded on the way to an HTTP client.
struct EncodedHits: Sendable {
    let count: Int
    let json: [UInt8]

    init(_ hits: [RecallHit]) {
        var writer = JSONWriter(capacity: 256 + hits.count * 400)
        writer.beginArray()
        for hit in hits { hit.write(to: &writer) }
        writer.endArray()
        count = hits.count
        json = writer.bytes
    }

    init(count: Int, json: [UInt8]) {
        self.count = count
        self.json = json
    }
}

extension RecallHit {
    fileprivate init?(_ json: JSON, clientID: Int) {
        guard var fields = json.object, let score = fields["score"]?.double else { return nil }
        fields["client_id"] = .int(Int64(clientID))
        guard let record = MemoryRecord(encoded: fields.encoded) else { return nil }
        self.init(record: record, similarity: fields["similarity_score"]?.double, score: score)
    }
}
