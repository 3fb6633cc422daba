/// What to change of a memory; what is nil stays as it is.
public struct MemoryPatch: Sendable {
    /// The new text.
    public var content: String?
    /// The new labels, instead of all there were.
    public var tags: [String]?
    /// The new metadata, instead of all there was.
    public var metadata: JSONObject?
    /// The new end.
    public var expiry: Expiry?

    /// A change of when a memory ends.
    public enum Expiry: Sendable {
        /// It ends at this moment.
        case at(Timestamp)
        /// It does not end.
        case never
    }

    /// Changes nothing.
    public init() {}

    /// A patch from the object that `PATCH …/{memory_id}` takes.
    ///
    /// - Throws: ``MemoryError`` with `invalid_request`, naming the field.
    package init(_ object: JSONObject) throws(MemoryError) {
        let fields = FieldReader(object)
        content = try fields.string("content")
        if fields["tags"]?.string != nil { throw .invalid("tags must be a list of strings", field: "tags") }
        tags = try fields.strings("tags")
        metadata = try fields.object("metadata")
        if let moment = try fields.timestamp("expires_at") {
            expiry = .at(moment)
        } else if object["expires_at"] != nil {
            expiry = .never
        }
        guard content != nil || tags != nil || metadata != nil || expiry != nil else {
            throw .invalid("one of content, tags, metadata and expires_at is required")
        }
    }

    func validate() throws(MemoryError) {
        if let content { try Limits.check(content: content) }
        if let tags { try Limits.check(tags: tags) }
        if let metadata { try Limits.check(metadata: metadata) }
    }

    func applied(to record: MemoryRecord) -> MemoryRecord {
        var record = record
        record.content = content ?? record.content
        record.tags = tags ?? record.tags
        record.metadata = metadata ?? record.metadata
        switch expiry {
        case nil: break
        case .at(let moment)?: record.expiresAt = moment.sayable
        case .never?: record.expiresAt = nil
        }
        return record
    }
}
