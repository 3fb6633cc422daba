/// Rows of `events` as what they are to an observer: things that happened, memories among them.
struct EventLogRepository {
    let session: any SQLSession

    func insert(_ draft: EventDraft) throws(MemoryError) -> Event {
        let rows = try session.query(
            """
            INSERT INTO events (event_type, event_source, client_id, payload, metadata)
            VALUES ($1, $2, $3, #jsonb($4), #jsonb($5)) RETURNING id, #time(created_at)
            """,
            [
                .text(draft.type), .text(draft.source), .optional(draft.owner.clientID), .json(draft.payload),
                .json(draft.metadata),
            ])
        guard let row = rows.first else { throw .badReply(.postgres, "no event id") }
        return Event(
            id: try row.int(0), type: draft.type, source: draft.source, clientID: draft.owner.clientID,
            payload: .object(draft.payload), metadata: .object(draft.metadata), createdAt: try row.timestamp(1))
    }

    func event(_ id: Int64, of owners: Owners) throws(MemoryError) -> Event? {
        let rows = try session.query(
            """
            SELECT id, event_type, event_source, client_id, #json(payload), #json(metadata), #time(created_at)
            FROM events WHERE #owned(client_id) AND id = $5
            """, owners.values + [.int(id)])
        return try rows.first.map(Self.event)
    }

    func list(_ filter: EventFilter, page: PageRequest) throws(MemoryError) -> [Event] {
        let rows = try session.query(
            """
            SELECT id, event_type, event_source, client_id, #json(payload), #json(metadata), #time(created_at)
            FROM events
            WHERE #owned(client_id) AND (#text($5) IS NULL OR event_type = $5)
                AND (#text($6) IS NULL OR event_source = $6)
                AND (#bigint($7) IS NULL OR created_at >= #moment($7))
                AND (#bigint($8) IS NULL OR created_at <= #moment($8)) AND (#bigint($9) IS NULL OR id < $9)
            ORDER BY id DESC LIMIT $10
            """, Self.values(filter) + [page.before, page.fetch])
        return try rows.map(Self.event)
    }

    /// Events after an id and up to another, oldest first.
    func after(_ id: Int64, upTo end: Int64, _ filter: EventFilter, limit: Int) throws(MemoryError) -> [Event] {
        let rows = try session.query(
            """
            SELECT id, event_type, event_source, client_id, #json(payload), #json(metadata), #time(created_at)
            FROM events
            WHERE #owned(client_id) AND (#text($5) IS NULL OR event_type = $5)
                AND (#text($6) IS NULL OR event_source = $6)
                AND (#bigint($7) IS NULL OR created_at >= #moment($7))
                AND (#bigint($8) IS NULL OR created_at <= #moment($8)) AND id > $9 AND id <= $10
            ORDER BY id LIMIT $11
            """, Self.values(filter) + [.int(id), .int(end), .int(Int64(limit))])
        return try rows.map(Self.event)
    }

    /// The ids after one and up to another.
    func ids(after id: Int64, upTo end: Int64) throws(MemoryError) -> [Int64] {
        try session.query("SELECT id FROM events WHERE id > $1 AND id <= $2", [.int(id), .int(end)])
            .map { row throws(MemoryError) in try row.int(0) }
    }

    // MARK: What is settled

    /// What can be seen of the ids that were given.
    struct Sight {
        /// The newest event, as long as its id was given by the sequence.
        let newest: Int64
        /// The highest id that was given.
        let given: Int64
        /// The transactions that may still bring an event with a lower id.
        let holders: [Holder]
    }

    /// A transaction that has taken an id.
    struct Holder {
        let transaction: String
        /// The number of its server process, to say who it is; nil when it was prepared, and waits for its commit by itself.
        let process: String?
    }

    /// Reads the newest event, and after it who may still bring a lower one: in this order, or a transaction that ends between
    /// the two is seen by neither.
    func sight() throws(MemoryError) -> Sight {
        let rows = try session.query(Self.newest, [])
        guard let row = rows.first else { throw .badReply(.postgres, "no newest event") }
        let (newest, given) = (try row.int(0), try row.int(1))
        guard session.dialect == .postgres else { return Sight(newest: newest, given: given, holders: []) }
        let holders = try session.query(Self.holders, [])
            .map { row throws(MemoryError) in
                Holder(transaction: try row.text(0), process: row.optionalText(1))
            }
        return Sight(newest: newest, given: given, holders: holders)
    }

    // Another program may insert with an id of its own choosing, far above the sequence: that says nothing of what is below.
    private static let newest = SQL(
        postgres: """
            SELECT least(seen.id, given.id), greatest(seen.id, given.id)
            FROM (SELECT coalesce(max(id), 0)::bigint AS id FROM events) AS seen,
                (SELECT pg_sequence_last_value(pg_get_serial_sequence('events', 'id')::regclass) AS id) AS given
            """,
        // One writer: ids are given in the order of commits.
        sqlite: """
            SELECT coalesce(max(id), 0), max(coalesce(max(id), 0),
                coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)) FROM events
            """)

    /// `nextval` locks the sequence until the transaction has ended; pg_dump reads it, which is another lock.
    private static let holders: SQL = """
        SELECT virtualtransaction, pid::text FROM pg_locks
        WHERE locktype = 'relation' AND granted AND mode NOT IN ('AccessShareLock', 'RowShareLock')
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND relation = coalesce(pg_get_serial_sequence('events', 'id')::regclass, 'events'::regclass)
        """

    func statistics(_ filter: EventFilter) throws(MemoryError) -> EventStatistics {
        let byType = try counts(
            """
            SELECT coalesce(event_type, ''), count(*) FROM events
            WHERE #owned(client_id) AND (#bigint($5) IS NULL OR created_at >= #moment($5))
            GROUP BY event_type ORDER BY 2 DESC, 1
            """, filter)
        let bySource = try counts(
            """
            SELECT coalesce(event_source, ''), count(*) FROM events
            WHERE #owned(client_id) AND (#bigint($5) IS NULL OR created_at >= #moment($5))
            GROUP BY event_source ORDER BY 2 DESC, 1
            """, filter)
        return EventStatistics(total: byType.reduce(0) { $0 + $1.count }, byType: byType, bySource: bySource)
    }

    private func counts(_ sql: SQL, _ filter: EventFilter) throws(MemoryError) -> [(name: String, count: Int)] {
        try session.query(sql, filter.owners.values + [.optional(filter.since)])
            .map { row throws(MemoryError) in (try row.text(0), Int(clamping: try row.int(1))) }
    }

    private static func values(_ filter: EventFilter) -> [SQLValue] {
        filter.owners.values + [
            .optional(filter.type), .optional(filter.source), .optional(filter.since), .optional(filter.until),
        ]
    }

    private static func event(_ row: SQLRow) throws(MemoryError) -> Event {
        Event(
            id: try row.int(0), type: row.optionalText(1) ?? "", source: row.optionalText(2) ?? "",
            clientID: try row.optionalInt(3).map { Int(clamping: $0) }, payload: try row.json(4),
            metadata: try row.json(5), createdAt: try row.timestamp(6))
    }
}
