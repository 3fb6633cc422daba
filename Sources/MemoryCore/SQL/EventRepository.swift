/// Memories as rows of `events`.
struct EventRepository {
    let session: any SQLSession

    /// A row to insert.
    struct New: Sendable {
        let draft: MemoryDraft
        let payload: String
        let metadata: String

        init(_ draft: MemoryDraft, now: Timestamp) {
            self.draft = draft
            payload = draft.payload(now: now).encodedText
            metadata = draft.metadata.encodedText
        }
    }

    /// Inserts rows with their outbox rows, in one statement. For the time of the lease the outbox rows are ours to
    /// deliver; then a worker takes them. The records come in the order of the rows.
    func insert(_ rows: [New], lease: Duration) throws(MemoryError) -> [MemoryRecord] {
        let stored =
            switch session.dialect {
            case .postgres: try insertInOneStatement(rows, lease)
            case .sqlite: try insertOneByOne(rows, lease)
            }
        guard stored.count == rows.count else {
            throw .badReply(.postgres, "\(stored.count) of \(rows.count) rows")
        }
        var records: [MemoryRecord] = []
        for (row, result) in zip(rows, stored) {
            let createdAt = Timestamp(microseconds: try result.int(1))
            records.append(MemoryRecord(row.draft, id: try result.int(0), createdAt: createdAt))
        }
        try insertEmbeddings(rows, records)
        return records
    }

    /// SQLite is in this process: a statement more costs next to nothing, and it has no inserts within a query.
    private func insertOneByOne(_ rows: [New], _ lease: Duration) throws(MemoryError) -> [SQLRow] {
        let now = Timestamp.now
        var stored: [SQLRow] = []
        for row in rows {
            stored += try session.query(
                """
                INSERT INTO events (event_type, event_source, client_id, payload, metadata, created_at)
                VALUES ($1, 'memory-gateway', $2, $3, $4, $5) RETURNING id, created_at
                """,
                [
                    .text(EventType.of(memoryType: row.draft.type)), .int(Int64(row.draft.clientID)),
                    .text(row.payload), .text(row.metadata), .int((row.draft.createdAt ?? now).microseconds),
                ])
            try session.execute(
                "INSERT INTO memory_outbox (collection, record_id, client_id, due_at) VALUES ('events', $1, $2, $3)",
                [
                    .int(try stored[stored.count - 1].int(0)), .int(Int64(row.draft.clientID)),
                    .int(now.advanced(by: lease).microseconds),
                ])
        }
        return stored
    }

    private func insertInOneStatement(_ rows: [New], _ lease: Duration) throws(MemoryError) -> [SQLRow] {
        try session.query(
            """
            WITH input AS (
                SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $6::text[])
                    WITH ORDINALITY AS t (event_type, client_id, payload, metadata, created_at, position)
            ), stored AS (
                INSERT INTO events (event_type, event_source, client_id, payload, metadata, created_at)
                SELECT event_type, 'memory-gateway', client_id, payload::jsonb, metadata::jsonb,
                    coalesce(created_at::timestamptz, clock_timestamp()) AT TIME ZONE 'utc'
                FROM input ORDER BY position
                RETURNING id, client_id, created_at
            ), queued AS (
                INSERT INTO memory_outbox (collection, record_id, client_id, due_at)
                SELECT 'events', id, client_id, clock_timestamp() + make_interval(secs => $5::float8) FROM stored
            )
            SELECT id, (extract(epoch FROM created_at) * 1000000)::bigint FROM stored ORDER BY id
            """,
            [
                .texts(rows.map { EventType.of(memoryType: $0.draft.type) }),
                .ints(rows.map { Int64($0.draft.clientID) }), .texts(rows.map(\.payload)),
                .texts(rows.map(\.metadata)), .double(lease.milliseconds / 1000),
                .texts(rows.map { $0.draft.createdAt?.description }),
            ])
    }

    private func insertEmbeddings(_ rows: [New], _ records: [MemoryRecord]) throws(MemoryError) {
        for (row, record) in zip(rows, records) {
            guard let embedding = row.draft.embedding else { continue }
            try session.execute(
                "INSERT INTO memory_embeddings (event_id, embedding) VALUES ($1, $2)",
                [.int(record.id), .bytes(embedding.littleEndianBytes)])
        }
    }

    /// The memories of these ids that belong to these clients; others are left out.
    func memories(_ keys: [RecordKey]) throws(MemoryError) -> [MemoryRecord] {
        let rows =
            switch session.dialect {
            case .postgres: try rowsTogether(keys)
            case .sqlite: try rowsOneByOne(keys)
            }
        var records: [MemoryRecord] = []
        records.reserveCapacity(rows.count)
        for row in rows {
            if let record = try record(row) { records.append(record) }
        }
        return records
    }

    private func rowsTogether(_ keys: [RecordKey]) throws(MemoryError) -> [SQLRow] {
        try session.query(
            """
            SELECT e.id, e.client_id, e.event_type, e.payload::text, e.metadata::text,
                (extract(epoch FROM e.created_at) * 1000000)::bigint
            FROM unnest($1::int[], $2::int[]) AS wanted (id, client_id)
            JOIN events e ON e.id = wanted.id AND e.client_id = wanted.client_id
            WHERE e.event_type LIKE 'memory:%'
            """,
            [.ints(keys.map(\.id)), .ints(keys.map { Int64($0.clientID) })])
    }

    private func rowsOneByOne(_ keys: [RecordKey]) throws(MemoryError) -> [SQLRow] {
        var rows: [SQLRow] = []
        for key in keys {
            rows += try session.query(
                """
                SELECT id, client_id, event_type, payload, metadata, created_at FROM events
                WHERE id = $1 AND client_id = $2 AND event_type LIKE 'memory:%'
                """, [.int(key.id), .int(Int64(key.clientID))])
        }
        return rows
    }

    /// Memories by id, in order, after a given one: of one client, or of all.
    func page(after id: Int64, clientID: Int?, limit: Int) throws(MemoryError) -> [MemoryRecord] {
        let rows = try session.query(
            SQL(
                postgres: """
                    SELECT e.id, e.client_id, e.event_type, e.payload::text, e.metadata::text,
                        (extract(epoch FROM e.created_at) * 1000000)::bigint
                    FROM events e
                    WHERE e.id > $1 AND ($2::int IS NULL OR e.client_id = $2::int) AND e.event_type LIKE 'memory:%'
                    ORDER BY e.id LIMIT $3
                    """,
                sqlite: """
                    SELECT e.id, e.client_id, e.event_type, e.payload, e.metadata, e.created_at FROM events e
                    WHERE e.id > $1 AND ($2 IS NULL OR e.client_id = $2) AND e.event_type LIKE 'memory:%'
                    ORDER BY e.id LIMIT $3
                    """),
            [.int(id), clientID.map { .int(Int64($0)) } ?? .null, .int(Int64(limit))])
        var records: [MemoryRecord] = []
        for row in rows {
            if let record = try record(row) { records.append(record) }
        }
        return records
    }

    /// How many memories there are, and of how many clients.
    func counts() throws(MemoryError) -> (memories: Int, clients: Int) {
        let rows = try session.query(
            "SELECT count(*), count(DISTINCT client_id) FROM events WHERE event_type LIKE 'memory:%'", [])
        guard let row = rows.first else { return (0, 0) }
        return (Int(clamping: try row.int(0)), Int(clamping: try row.int(1)))
    }

    /// Memories whose text has any of some words, best first, by the primary store's own full text. Of the words, which
    /// are letters and digits, the first 16 count: their number bounds the cost. Of the filter only what narrows the search
    /// is applied here; the caller checks every record against the whole.
    func search(
        _ words: [String], clientID: Int, filter: RecallFilter, limit: Int
    ) throws(MemoryError) -> [(record: MemoryRecord, rank: Double)] {
        let words = words.prefix(16)
        let rows =
            switch session.dialect {
            case .postgres: try searchPostgres(words, clientID, filter, limit)
            case .sqlite: try searchSQLite(words, clientID, filter, limit)
            }
        var found: [(MemoryRecord, Double)] = []
        for row in rows {
            guard let record = try record(row) else { continue }
            found.append((record, try row.double(6)))
        }
        return found
    }

    private func searchPostgres(
        _ words: ArraySlice<String>, _ clientID: Int, _ filter: RecallFilter, _ limit: Int
    ) throws(MemoryError) -> [SQLRow] {
        var payload = JSONObject()
        payload["memory_type"] = filter.type.map(JSON.string)
        payload["session_id"] = filter.sessionID.map(JSON.string)
        if !filter.tags.isEmpty { payload["tags"] = .array(filter.tags.map(JSON.string)) }
        return try session.query(
            """
            SELECT e.id, e.client_id, e.event_type, e.payload::text, e.metadata::text,
                (extract(epoch FROM e.created_at) * 1000000)::bigint,
                ts_rank(to_tsvector('english', e.payload ->> 'content'), e.question)
            FROM (
                SELECT events.*, question FROM events, to_tsquery('english', $2) AS question
                WHERE client_id = $1 AND event_type LIKE 'memory:%'
                    AND to_tsvector('english', payload ->> 'content') @@ question
                    AND payload @> $3::jsonb AND coalesce(metadata, '{}') @> $4::jsonb
                    AND (cardinality($5::text[]) = 0 OR payload ->> 'memory_scope' = ANY ($5::text[]))
                ORDER BY id DESC LIMIT 1000
            ) e
            ORDER BY 7 DESC, e.id DESC LIMIT $6
            """,
            [
                .int(Int64(clientID)), .text(words.map { "'\($0)'" }.joined(separator: " | ")),
                .text(payload.encodedText), .text(filter.metadata.encodedText),
                .texts(filter.scopes.map(\.rawValue)), .int(Int64(limit)),
            ])
    }

    private func searchSQLite(
        _ words: ArraySlice<String>, _ clientID: Int, _ filter: RecallFilter, _ limit: Int
    ) throws(MemoryError) -> [SQLRow] {
        try session.query(
            """
            SELECT e.id, e.client_id, e.event_type, e.payload, e.metadata, e.created_at, -bm25(memory_text)
            FROM memory_text JOIN events e ON e.id = memory_text.rowid
            WHERE memory_text MATCH $2 AND e.client_id = $1
                AND ($3 IS NULL OR json_extract(e.payload, '$.memory_type') = $3)
                AND ($4 IS NULL OR json_extract(e.payload, '$.session_id') = $4)
            ORDER BY bm25(memory_text), e.id DESC LIMIT $5
            """,
            [
                .int(Int64(clientID)), .text(words.map { "\"\($0)\"" }.joined(separator: " OR ")),
                filter.type.map(SQLValue.text) ?? .null, filter.sessionID.map(SQLValue.text) ?? .null,
                .int(Int64(max(limit, 200))),
            ])
    }

    private func record(_ row: SQLRow) throws(MemoryError) -> MemoryRecord? {
        MemoryRecord(
            id: try row.int(0), clientID: Int(clamping: try row.int(1)), eventType: try row.text(2),
            payload: row.optionalText(3) ?? "", metadata: row.optionalText(4), createdAt: try row.int(5))
    }

    /// The vectors that callers supplied for these memories.
    func suppliedEmbeddings(_ ids: [Int64]) throws(MemoryError) -> [Int64: [Float]] {
        let rows = try session.query(
            SQL(
                postgres: "SELECT event_id, embedding FROM memory_embeddings WHERE event_id = ANY ($1::int[])",
                sqlite: """
                    SELECT event_id, embedding FROM memory_embeddings
                    WHERE event_id IN (SELECT value FROM json_each($1))
                    """), [.ints(ids)])
        var vectors: [Int64: [Float]] = [:]
        for row in rows { vectors[try row.int(0)] = [Float](littleEndianBytes: try row.bytes(1)) }
        return vectors
    }

    /// Deletes a memory.
    ///
    /// - Returns: the fence of the outbox row that asks for its point to go; nil when the client has no such memory.
    func delete(_ key: RecordKey, lease: Duration) throws(MemoryError) -> Int64? {
        let gone = try session.execute(
            "DELETE FROM events WHERE id = $1 AND client_id = $2 AND event_type LIKE 'memory:%'",
            [.int(key.id), .int(Int64(key.clientID))])
        guard gone > 0 else { return nil }
        let rows = try session.query(
            SQL(
                postgres: """
                    INSERT INTO memory_outbox (collection, record_id, client_id, due_at)
                    VALUES ('events', $1, $2, clock_timestamp() + make_interval(secs => $3::float8))
                    ON CONFLICT (collection, record_id) DO UPDATE SET
                        fence = memory_outbox.fence + 1, state = 'pending', is_stored = FALSE, attempts = 0,
                        due_at = excluded.due_at
                    RETURNING fence
                    """,
                sqlite: """
                    INSERT INTO memory_outbox (collection, record_id, client_id, due_at) VALUES ('events', $1, $2,
                        CAST(((julianday('now') - 2440587.5) * 86400.0 + $3) * 1000000.0 AS INTEGER))
                    ON CONFLICT (collection, record_id) DO UPDATE SET
                        fence = memory_outbox.fence + 1, state = 'pending', is_stored = 0, attempts = 0,
                        due_at = excluded.due_at
                    RETURNING fence
                    """),
            [.int(key.id), .int(Int64(key.clientID)), .double(lease.milliseconds / 1000)])
        guard let row = rows.first else { return nil }
        return try row.int(0)
    }
}

/// A record and the client it must belong to. Nothing is read without both.
struct RecordKey: Sendable, Hashable {
    let id: Int64
    let clientID: Int
}

extension [Float] {
    /// Four bytes a number, the lowest first.
    var littleEndianBytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count * 4)
        for value in self {
            let bits = value.bitPattern
            for shift in stride(from: UInt32(0), to: 32, by: 8) {
                bytes.append(UInt8(truncatingIfNeeded: bits >> shift))
            }
        }
        return bytes
    }

    init(littleEndianBytes bytes: [UInt8]) {
        self = stride(from: 0, to: bytes.count - bytes.count % 4, by: 4).map { start in
            let bits = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[start + $1]) << (8 * UInt32($1)) }
            return Float(bitPattern: bits)
        }
    }
}
