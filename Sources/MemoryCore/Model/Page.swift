/// A part of a list, newest first.
public struct Page<Item: Sendable>: Sendable {
    /// What is on it.
    public let items: [Item]
    /// What ``PageRequest/cursor`` must be for the part that follows; nil when this is the last.
    public let nextCursor: String?
}

/// Which part of a list is wanted.
public struct PageRequest: Sendable {
    /// How many items at most, 1...500.
    public var limit: Int
    /// Where the part before ended: its ``Page/nextCursor``; nil for the beginning.
    public var cursor: String?

    /// The beginning of a list, or what follows a cursor.
    public init(limit: Int = 50, cursor: String? = nil) {
        self.limit = limit
        self.cursor = cursor
    }

    static let limits = 1...500

    func validate() throws(MemoryError) {
        guard Self.limits.contains(limit) else {
            throw .invalid("limit must be between 1 and \(Self.limits.upperBound)", field: "limit")
        }
        guard cursor == nil || cursor.flatMap({ Int64($0) }) != nil else {
            throw .invalid("cursor must be the next_cursor of an earlier answer", field: "cursor")
        }
    }

    /// The row before which to go on.
    var before: SQLValue { cursor.flatMap { Int64($0) }.map(SQLValue.int) ?? .null }

    /// One more than is wanted, which tells whether there are more.
    var fetch: SQLValue { .int(Int64(limit) + 1) }

    /// The page of the rows that were fetched.
    func page<Item>(_ rows: [Item], id: (Item) -> Int64) -> Page<Item> {
        let items = Array(rows.prefix(limit))
        return Page(items: items, nextCursor: rows.count > limit ? items.last.map { String(id($0)) } : nil)
    }

    /// The `limit` and `cursor` of a request.
    ///
    /// - Throws: ``MemoryError`` with `invalid_request`, naming the field.
    package init(_ fields: FieldReader) throws(MemoryError) {
        self.init(limit: try fields.int("limit") ?? 50, cursor: try fields.string("cursor"))
    }
}
