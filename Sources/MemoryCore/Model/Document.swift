/// A document to ingest.
public struct DocumentDraft: Sendable {
    /// Its id among its owner's documents, at most 255 bytes. A document of that id is replaced.
    public var id: String
    /// Whose document it is.
    public var owner: Owner
    /// Its title, at most 500 characters.
    public var title: String?
    /// Markdown or plain text, at most 16 MiB.
    public var content: String
    /// Anything else, at most 16 KiB of JSON.
    public var metadata = JSONObject()

    /// A document without title and metadata.
    public init(id: String, owner: Owner, content: String) {
        self.id = id
        self.owner = owner
        self.content = content
    }

    func validate() throws(MemoryError) {
        try Limits.check(id, "doc_id", maxBytes: 255)
        try owner.validate()
        if let title { try Limits.check(title, "title", maxCharacters: 500) }
        guard content.utf8.count <= Limits.documentBytes else {
            throw MemoryError(.tooLarge, "content must be at most \(Limits.documentBytes) bytes", field: "content")
        }
        try Limits.check(content, "content", maxBytes: Limits.documentBytes)
        try Limits.check(metadata: metadata)
    }
}

/// A document that was ingested.
public struct Document: Sendable {
    let rowID: Int64
    /// Its id among its owner's documents.
    public let id: String
    /// Whose it is; nil when everyone shares it.
    public let clientID: Int?
    /// Its title.
    public let title: String?
    /// How many chunks it was cut into.
    public let chunks: Int
    /// The caller's own data.
    public let metadata: JSONObject
    /// When a document of this id was first ingested.
    public let createdAt: Timestamp
    /// When this one was.
    public let updatedAt: Timestamp
    /// Its text; nil in lists.
    public let content: String?
}

/// What became of a document that was stored.
public struct DocumentReceipt: Sendable {
    /// Its id.
    public let id: String
    /// How many chunks there are.
    public let chunks: Int
    /// The stores that have it.
    public let storedIn: [MemoryError.Store]
    /// The stores that could not take all of it. The outbox delivers it later.
    public let failed: [MemoryError.Store]
    /// The stores that are still taking it: of a long document they get the first chunks before the answer, and the others
    /// in the background.
    public let pending: [MemoryError.Store]
}

/// A piece of a document, small enough to be found by what it says.
struct DocumentChunk: Sendable {
    let id: Int64
    /// 0 for a document that everyone shares.
    let clientID: Int
    let documentID: String
    let index: Int
    let content: String
    /// The document's.
    let metadata: JSONObject
    let createdAt: Timestamp
}

/// A piece of a document that answers a question.
public struct DocumentHit: Sendable {
    /// The document.
    public let documentID: String
    /// Which of its chunks, from 0.
    public let index: Int
    /// What the chunk says.
    public let content: String
    /// The cosine similarity in 0...1; nil where the chunk was found by its words alone.
    public let similarity: Double?
    /// The document's metadata.
    public let metadata: JSONObject
}
