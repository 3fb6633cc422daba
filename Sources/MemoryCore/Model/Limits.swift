/// The limits of what comes in, and the checks that hold them: the same for HTTP, files and Swift callers.
enum Limits {
    static let contentBytes = 65_536
    static let queryBytes = 8192
    static let identifierBytes = 256
    static let typeCharacters = 50
    static let tags = 64
    static let metadataBytes = 16_384
    static let batch = 256
    static let results = 1...100
    static let clientIDs = 1...Int(Int32.max)
    static let idempotencyKeyBytes = 255

    /// The vectors of every collection.
    static let dimensions = 1536

    static func check(clientID: Int) throws(MemoryError) {
        guard clientIDs.contains(clientID) else {
            throw .invalid("client_id must be between 1 and \(clientIDs.upperBound)", field: "client_id")
        }
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

    static func check(content: String) throws(MemoryError) {
        guard content.utf8.count <= contentBytes else {
            throw MemoryError(.tooLarge, "content must be at most \(contentBytes) bytes", field: "content")
        }
        try check(content, "content", maxBytes: contentBytes)
    }

    static func check(type: String) throws(MemoryError) {
        try check(type, "memory_type", maxBytes: typeCharacters * 4)
        guard type.unicodeScalars.count <= typeCharacters else {
            throw .invalid("memory_type must be at most \(typeCharacters) characters", field: "memory_type")
        }
    }

    static func check(tags: [String]) throws(MemoryError) {
        guard tags.count <= self.tags else { throw .invalid("tags must be at most \(self.tags)", field: "tags") }
        for tag in tags { try check(tag, "tags", maxBytes: identifierBytes) }
    }

    static func check(metadata: JSONObject) throws(MemoryError) {
        let bytes = metadata.encoded
        guard bytes.count <= metadataBytes else {
            throw .invalid("metadata must be at most \(metadataBytes) bytes of JSON", field: "metadata")
        }
        // JSON that was parsed has none; a Swift caller's could, and no store takes it.
        guard !metadata.containsNUL else { throw .invalid("metadata must not contain NUL", field: "metadata") }
    }

    static func check(embedding: [Float]) throws(MemoryError) {
        guard embedding.count == dimensions else {
            throw .invalid("embedding must have \(dimensions) numbers, not \(embedding.count)", field: "embedding")
        }
        guard embedding.allSatisfy(\.isFinite), embedding.contains(where: { $0 != 0 }) else {
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
    }
}

extension JSONObject {
    fileprivate var containsNUL: Bool {
        members.contains { $0.key.utf8.contains(0) || $0.value.containsNUL }
    }
}

extension JSON {
    fileprivate var containsNUL: Bool {
        switch self {
        case .string(let text): text.utf8.contains(0)
        case .array(let elements): elements.contains(where: \.containsNUL)
        case .object(let object): object.containsNUL
        default: false
        }
    }
}
