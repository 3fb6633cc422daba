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
                .text(draft.type), .text(draft.source), .optional(draft.clientID), .json(draft.payload),
                .json(draft.metadata),
            ])
        guard let row = rows.first else { throw .badReply(.postgres, "no event id") }
        return Event(
            id: try row.int(0), type: draft.type, source: draft.source, clientID: draft.clientID,
            payload: .object(draft.payload), metadata: .object(draft.metadata), createdAt: try row.timestamp(1))
    }

    func event(_ id: Int64, clientID: Int?) throws(MemoryError) -> Event? {
        let rows = try session.query(
            """
            SELECT id, event_type, event_source, client_id, #json(payload), #json(metadata), #time(created_at)
            FROM events WHERE id = $1 AND (#int($2) IS NULL OR client_id = $2)
            """, [.int(id), .optional(clientID)])
        return try rows.first.map(Self.event)
    }

    func list(_ filter: EventFilter, page: PageRequest) throws(MemoryError) -> [Event] {
        let rows = try session.query(
            """
            SELECT id, event_type, event_source, client_id, #json(payload), #json(metadata), #time(created_at)
            FROM events
            WHERE (#int($1) IS NULL OR client_id = $1) AND (#text($2) IS NULL OR event_type = $2)
                AND (#text($3) IS NULL OR event_source = $3)
                AND (#bigint($4) IS NULL OR created_at >= #moment($4))
                AND (#bigint($5) IS NULL OR created_at <= #moment($5)) AND (#bigint($6) IS NULL OR id < $6)
            ORDER BY id DESC LIMIT $7
            """, Self.values(filter) + [page.before, page.fetch])
        return try rows.map(Self.event)
    }

    /// Events after an id, oldest first.
    func after(_ id: Int64, _ filter: EventFilter, limit: Int) throws(MemoryError) -> [Event] {
        let rows = try session.query(
            """
            SELECT id, event_type, event_source, client_id, #json(payload), #json(metadata), #time(created_at)
            FROM events
            WHERE (#int($1) IS NULL OR client_id = $1) AND (#text($2) IS NULL OR event_type = $2)
                AND (#text($3) IS NULL OR event_source = $3)
                AND (#bigint($4) IS NULL OR created_at >= #moment($4))
                AND (#bigint($5) IS NULL OR created_at <= #moment($5)) AND id > $6
            ORDER BY id LIMIT $7
            """, Self.values(filter) + [.int(id), .int(Int64(limit))])
        return try rows.map(Self.event)
    }

    /// The id of the newest event; 0 when there is none.
    func newest() throws(MemoryError) -> Int64 {
        try session.query("SELECT coalesce(max(id), 0) FROM events", []).first?.int(0) ?? 0
    }

    func statistics(_ filter: EventFilter) throws(MemoryError) -> EventStatistics {
        let byType = try counts(
            """
            SELECT coalesce(event_type, ''), count(*) FROM events
            WHERE (#int($1) IS NULL OR client_id = $1) AND (#bigint($2) IS NULL OR created_at >= #moment($2))
            GROUP BY event_type ORDER BY 2 DESC, 1
            """, filter)
        let bySource = try counts(
            """
            SELECT coalesce(event_source, ''), count(*) FROM events
            WHERE (#int($1) IS NULL OR client_id = $1) AND (#bigint($2) IS NULL OR created_at >= #moment($2))
            GROUP BY event_source ORDER BY 2 DESC, 1
            """, filter)
        return EventStatistics(total: byType.reduce(0) { $0 + $1.count }, byType: byType, bySource: bySource)
    }

    private func counts(_ sql: SQL, _ filter: EventFilter) throws(MemoryError) -> [(name: String, count: Int)] {
        try session.query(sql, [.optional(filter.clientID), .optional(filter.since)])
            .map { row throws(MemoryError) in (try row.text(0), Int(clamping: try row.int(1))) }
    }

    private static func values(_ filter: EventFilter) -> [SQLValue] {
        [
            .optional(filter.clientID), .optional(filter.type), .optional(filter.source), .optional(filter.since),
            .optional(filter.until),
        ]
    }

    private static func event(_ row: SQLRow) throws(MemoryError) -> Event {
        Event(
            id: try row.int(0), type: row.optionalText(1) ?? "", source: row.optionalText(2) ?? "",
            clientID: try row.optionalInt(3).map { Int(clamping: $0) }, payload: try row.json(4),
            metadata: try row.json(5), createdAt: try row.timestamp(6))
    }
}
