/// The limits of what comes in, and the checks that hold them: the same for HTTP, files and Swift callers.
package enum Limits {
    static let contentBytes = 65_536
    static let documentBytes = 16 << 20
    static let queryBytes = 8192
    static let identifierBytes = 256
    static let typeCharacters = 50
    static let tags = 64
    static let metadataBytes = 16_384
    /// How many members a recall's metadata filter may have: each is looked up in every record that is found.
    package static let filterMembers = 32
    static let batch = 256
    static let results = 1...100
    static let clientIDs = 1...Int(Int32.max)
    static let idempotencyKeyBytes = 255

    /// The vectors of every collection.
    static let dimensions = 1536

    package static func check(clientID: Int) throws(MemoryError) {
        guard clientIDs.contains(clientID) else {
            throw .invalid("client_id must be between 1 and \(clientIDs.upperBound)", field: "client_id")
        }
    }

    /// - Throws: ``MemoryError`` with `not_found` for an id that no row can have.
    static func check(rowID: Int64) throws(MemoryError) {
        guard (1...Int64(Int32.max)).contains(rowID) else { throw Memory.missing }
    }

    /// Text that must be there: not empty, not only white space, no NUL, not too long.
    static func check(_ text: String, _ field: String, maxBytes: Int) throws(MemoryError) {
        guard !text.utf8.contains(0) else { throw .invalid("\(field) must not contain NUL", field: field) }
        guard text.contains(where: { !$0.isWhitespace }) else {
            throw .invalid("\(field) must not be empty", field: field)
        }
        guard text.utf8.count <= maxBytes else {
            throw .invalid("\(field) must be at most \(maxBytes) bytes", field: field)
        }
    }

    /// Text that must be there, of at most so many characters (Unicode scalars, as PostgreSQL counts them).
    static func check(_ text: String, _ field: String, maxCharacters: Int) throws(MemoryError) {
        try check(text, field, maxBytes: maxCharacters * 4)
        guard text.unicodeScalars.count <= maxCharacters else {
            throw .invalid("\(field) must be at most \(maxCharacters) characters", field: field)
        }
    }

    static func check(content: String) throws(MemoryError) {
        guard content.utf8.count <= contentBytes else {
            throw MemoryError(.tooLarge, "content must be at most \(contentBytes) bytes", field: "content")
        }
        try check(content, "content", maxBytes: contentBytes)
    }

    static func check(type: String) throws(MemoryError) {
        try check(type, "memory_type", maxCharacters: typeCharacters)
    }

    static func check(tags: [String]) throws(MemoryError) {
        guard tags.count <= self.tags else { throw .invalid("tags must be at most \(self.tags)", field: "tags") }
        for tag in tags { try check(tag, "tags", maxBytes: identifierBytes) }
    }

    static func check(
        metadata: JSONObject, field: String = "metadata", maxBytes: Int = metadataBytes
    ) throws(MemoryError) {
        try check(json: .object(metadata), field, maxBytes: maxBytes)
    }

    static func check(json: JSON, _ field: String, maxBytes: Int) throws(MemoryError) {
        guard json.encoded.count <= maxBytes else {
            throw .invalid("\(field) must be at most \(maxBytes) bytes of JSON", field: field)
        }
        // JSON that was parsed has none; a Swift caller's could, and no store takes it.
        guard !json.containsNUL else { throw .invalid("\(field) must not contain NUL", field: field) }
    }

    static func check(embedding: [Float]) throws(MemoryError) {
        guard embedding.count == dimensions else {
            throw .invalid("embedding must have \(dimensions) numbers, not \(embedding.count)", field: "embedding")
        }
        guard (try? VectorMath.normalised(embedding)) != nil else {
            throw .invalid("embedding must be finite numbers, not all zero", field: "embedding")
        }
    }
}

extension MemoryDraft {
    /// - Throws: ``MemoryError`` with `invalid_request` or `too_large`, naming the field.
    func validate() throws(MemoryError) {
        try Limits.check(clientID: clientID)
        try Limits.check(content: content)
        try Limits.check(type: type)
        if let sessionID { try Limits.check(sessionID, "session_id", maxBytes: Limits.identifierBytes) }
        if let runID { try Limits.check(runID, "run_id", maxBytes: Limits.identifierBytes) }
        try Limits.check(tags: tags)
        try Limits.check(metadata: metadata)
        if case .after(let duration)? = expiry, duration <= .zero {
            throw .invalid("ttl_seconds must be more than 0", field: "ttl_seconds")
        }
        if let embedding { try Limits.check(embedding: embedding) }
        switch kind {
        case .memory: break
        case .agentMemory(let id): try Limits.check(id, "memory_id", maxBytes: Limits.identifierBytes)
        case .reflection(let reflection):
            guard reflection.date.utf8.count == 10, Timestamp(reflection.date) != nil else {
                throw .invalid("reflection_date must be a date such as 2026-05-07", field: "reflection_date")
            }
            try Limits.check(metadata: reflection.metrics, field: "metrics")
        }
    }
}

extension JSONObject {
    var containsNUL: Bool {
        members.contains { $0.key.utf8.contains(0) || $0.value.containsNUL }
    }
}

extension JSON {
    var containsNUL: Bool {
        switch self {
        case .string(let text): text.utf8.contains(0)
        case .array(let elements): elements.contains(where: \.containsNUL)
        case .object(let object): object.containsNUL
        default: false
        }
    }
}
