extension RecallRequest {
    /// A request from the object that `POST …/recall` takes. Fields that are not known are ignored.
    ///
    /// - Throws: ``MemoryError`` with `invalid_request`, naming the field.
    package init(_ object: JSONObject) throws(MemoryError) {
        let fields = FieldReader(object)
        self.init(query: try fields.requiredString("query"), clientID: try fields.requiredInt("client_id"))
        if let limit = try fields.int("k") { self.limit = limit }
        if let mode = try fields.choice("mode", Mode.self) { self.mode = mode }
        if let sources = try fields.choices("sources", Source.self) { self.sources = sources }
        minScore = try fields.double("min_score")
        filter.type = try fields.string("memory_type")
        filter.scopes = try fields.choices("scopes", MemoryScope.self) ?? []
        filter.sessionID = try fields.string("session_id")
        filter.tags = try fields.strings("tags") ?? []
        filter.since = try fields.timestamp("since")
        filter.until = try fields.timestamp("until")
        filter.metadata = try fields.object("metadata") ?? JSONObject()
    }
}
