extension MemoryDraft {
    /// A draft from the object that `POST …/remember` takes. Fields that are not known are ignored.
    ///
    /// - Throws: ``MemoryError`` with `invalid_request`, naming the field.
    package init(_ object: JSONObject) throws(MemoryError) {
        let fields = FieldReader(object)
        self.init(
            clientID: try fields.requiredInt("client_id"), content: try fields.requiredString("content"))
        if let type = try fields.string("memory_type") { self.type = type }
        if let scope = try fields.choice("memory_scope", MemoryScope.self) { self.scope = scope }
        sessionID = try fields.string("session_id")
        runID = try fields.string("run_id")
        if fields["tags"]?.string != nil { throw .invalid("tags must be a list of strings", field: "tags") }
        tags = try fields.strings("tags") ?? []
        metadata = try fields.object("metadata") ?? JSONObject()
        occurredAt = try fields.timestamp("occurred_at")
        expiry = try Self.expiry(fields)
        embedding = try Self.embedding(fields["embedding"])
    }

    private static func expiry(_ fields: FieldReader) throws(MemoryError) -> Expiry? {
        let moment = try fields.timestamp("expires_at")
        guard let seconds = try fields.double("ttl_seconds") else { return moment.map(Expiry.at) }
        guard moment == nil else {
            throw .invalid("expires_at and ttl_seconds must not both be given", field: "ttl_seconds")
        }
        guard (0.001...3_155_760_000).contains(seconds) else {
            throw .invalid("ttl_seconds must be more than 0 and at most 100 years", field: "ttl_seconds")
        }
        return .after(.microseconds(Int64(seconds * 1_000_000)))
    }

    private static func embedding(_ json: JSON?) throws(MemoryError) -> [Float]? {
        guard let json else { return nil }
        guard let elements = json.array else { throw .invalid("embedding must be an array", field: "embedding") }
        let numbers = elements.compactMap { $0.double.map { Float($0) } }
        guard numbers.count == elements.count else {
            throw .invalid("embedding must be an array of numbers", field: "embedding")
        }
        return numbers
    }
}

extension MemoryDraft {
    /// A draft from a line of an export, which keeps the moment it was first stored. Its old id is not kept: ids are the
    /// store's own.
    ///
    /// - Throws: ``MemoryError`` with `invalid_request`, naming the field.
    package init(exported object: JSONObject) throws(MemoryError) {
        try self.init(object)
        let fields = FieldReader(object)
        createdAt = try fields.timestamp("created_at")
        let source = try fields.choice("source", RecallRequest.Source.self) ?? .events
        guard let kind = RecordKind(source: source, members: object, agentMemoryKey: "agent_memory_id") else {
            throw .invalid("source \(source.rawValue) needs the fields that an export gives it", field: "source")
        }
        self.kind = kind
    }

    /// The drafts of `POST …/remember/batch`; an item that is no draft is its own failure.
    ///
    /// `client`: whose an item is that names nobody.
    /// - Throws: ``MemoryError`` when there is no list of them.
    package static func batch(
        _ object: JSONObject, client: Int? = nil
    ) throws(MemoryError) -> [Result<MemoryDraft, MemoryError>] {
        guard let items = try FieldReader(object).required("memories").array else {
            throw .invalid("memories must be an array", field: "memories")
        }
        return items.map { item in
            Result { () throws(MemoryError) in
                guard var object = item.object else { throw .invalid("a memory must be an object", field: "memories") }
                try object.refuseNUL()
                if let client, object["client_id"] == nil { object["client_id"] = .int(Int64(client)) }
                return try MemoryDraft(object)
            }
        }
    }
}
