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

    /// A record that was just inserted, with its outbox row.
    struct Inserted: Sendable {
        let record: MemoryRecord
        let lease: OutboxRepository.Lease
    }

    /// Inserts rows with their outbox rows, in one statement. For the time of the lease the outbox rows are ours to
    /// deliver; then a worker takes them. The records come in the order of the rows.
    func insert(_ rows: [New], lease: Duration) throws(MemoryError) -> [Inserted] {
        guard let order = Self.lockOrder(rows) else { return try insertInOrder(rows, lease) }
        let inserted = try insertInOrder(order.map { rows[$0] }, lease)
        var places = [Int](repeating: 0, count: rows.count)
        for (place, row) in order.enumerated() { places[row] = place }
        return places.map { inserted[$0] }
    }

    /// The order in which rows are inserted, where it matters to others: of agent memories each id is taken once, and two who
    /// take the same ids in different orders would wait for each other for ever.
    private static func lockOrder(_ rows: [New]) -> [Int]? {
        var agents: [(row: Int, key: [UInt8])] = []
        for (index, row) in rows.enumerated() {
            guard case .agentMemory(let id) = row.draft.kind else { continue }
            agents.append((index, Array("\(row.draft.clientID)/\(id)".utf8)))
        }
        guard agents.count > 1 else { return nil }
        let taken = Set(agents.map(\.row))
        agents.sort { $0.key.lexicographicallyPrecedes($1.key) }
        return rows.indices.filter { !taken.contains($0) } + agents.map(\.row)
    }

    private func insertInOrder(_ rows: [New], _ lease: Duration) throws(MemoryError) -> [Inserted] {
        let (fence, end) = (OutboxRepository.newFence(), Deadline.after(lease))
        let stored =
            switch session.dialect {
            case .postgres: try insertInOneStatement(rows, lease, fence: fence)
            case .sqlite: try insertInTwoStatements(rows, lease, fence: fence)
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
        return records.map { record in
            Inserted(
                record: record,
                lease: OutboxRepository.Lease(
                    collection: record.kind.source.collection.description,
                    key: RecordKey(id: record.id, clientID: record.clientID), fence: fence, attempts: 0,
                    isStored: false, isShared: false, end: end))
        }
    }

    /// Two statements for all rows: the full-text index writes to its tables at the end of each statement.
    private func insertInTwoStatements(_ rows: [New], _ lease: Duration, fence: Int64) throws(MemoryError) -> [SQLRow] {
        var writer = JSONWriter()
        writer.beginArray()
        for row in rows {
            writer.beginArray()
            writer.string(EventType.of(row.draft.kind, type: row.draft.type))
            writer.int(row.draft.clientID)
            writer.string(row.payload)
            writer.string(row.metadata)
            writer.json(row.draft.createdAt.map { .int($0.microseconds) } ?? .null)
            writer.endArray()
        }
        writer.endArray()
        // SQLite does not promise the order of RETURNING; the ids were given in the order of the rows.
        let stored = try session.query(
            """
            INSERT INTO events (event_type, event_source, client_id, payload, metadata, created_at)
            SELECT value ->> 0, 'memory-gateway', value ->> 1, value ->> 2, value ->> 3, coalesce(value ->> 4, #now())
            FROM json_each($1) ORDER BY key
            RETURNING id, created_at
            """, [.text(String(decoding: writer.bytes, as: UTF8.self))]
        ).map { row throws(MemoryError) in (id: try row.int(0), row: row) }.sorted { $0.id < $1.id }
        try session.execute(
            """
            INSERT INTO memory_outbox (collection, record_id, client_id, due_at, fence)
            SELECT #collection(event_type), id, client_id,
                CAST(((julianday('now') - 2440587.5) * 86400.0 + $2) * 1000000.0 AS INTEGER), $3
            FROM events WHERE id #anyInt($1)
            """, [.ints(stored.map(\.id)), .double(lease.milliseconds / 1000), .int(fence)])
        return stored.map(\.row)
    }

    private func insertInOneStatement(_ rows: [New], _ lease: Duration, fence: Int64) throws(MemoryError) -> [SQLRow] {
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
                RETURNING id, client_id, created_at, event_type
            ), queued AS (
                INSERT INTO memory_outbox (collection, record_id, client_id, due_at, fence)
                SELECT #collection(event_type),
                    id, client_id, clock_timestamp() + make_interval(secs => $5::float8), $7::bigint FROM stored
            )
            SELECT id, (extract(epoch FROM created_at) * 1000000)::bigint FROM stored ORDER BY id
            """,
            [
                .texts(rows.map { EventType.of($0.draft.kind, type: $0.draft.type) }),
                .ints(rows.map { Int64($0.draft.clientID) }), .texts(rows.map(\.payload)),
                .texts(rows.map(\.metadata)), .double(lease.milliseconds / 1000),
                .texts(rows.map { $0.draft.createdAt?.description }), .int(fence),
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

    // The limit keeps this a lookup for each key: a join is planned as a scan of all events while the table is small, and
    // a prepared plan stays after the table has grown.
    private static let byKeys: SQL = """
        SELECT e.id, e.client_id, e.event_type, e.payload::text, e.metadata::text,
            (extract(epoch FROM e.created_at) * 1000000)::bigint
        FROM unnest($1::int[], $2::int[]) AS wanted (id, client_id)
        CROSS JOIN LATERAL (
            SELECT * FROM events WHERE id = wanted.id AND client_id = wanted.client_id LIMIT 1
        ) e
        WHERE #record(e.event_type)
        """

    private func rowsTogether(_ keys: [RecordKey]) throws(MemoryError) -> [SQLRow] {
        try session.query(
            Self.byKeys, [.ints(keys.map(\.id)), .ints(keys.map { Int64($0.clientID) })])
    }

    private func rowsOneByOne(_ keys: [RecordKey]) throws(MemoryError) -> [SQLRow] {
        var rows: [SQLRow] = []
        for key in keys {
            rows += try session.query(
                """
                SELECT id, client_id, event_type, payload, metadata, created_at FROM events
                WHERE id = $1 AND client_id = $2 AND #record(event_type)
                """, [.int(key.id), .int(Int64(key.clientID))])
        }
        return rows
    }

    /// Memories of some owners by id, in order, after a given one.
    func page(after id: Int64, of owners: Owners, limit: Int) throws(MemoryError) -> [MemoryRecord] {
        let rows = try session.query(
            """
            SELECT e.id, e.client_id, e.event_type, #json(e.payload), #json(e.metadata), #time(e.created_at)
            FROM events e
            WHERE #owned(e.client_id) AND e.id > $5 AND #record(e.event_type)
            ORDER BY e.id LIMIT $6
            """, owners.values + [.int(id), .int(Int64(limit))])
        var records: [MemoryRecord] = []
        for row in rows {
            if let record = try record(row) { records.append(record) }
        }
        return records
    }

    /// A client's reflections, newest first, before a cursor.
    func reflections(
        clientID: Int, mode: RecordKind.Reflection.Mode?, page: PageRequest
    ) throws(MemoryError) -> [MemoryRecord] {
        let rows = try session.query(
            """
            SELECT id, client_id, event_type, #json(payload), #json(metadata), #time(created_at) FROM events
            WHERE client_id = $1 AND event_type = 'reflection' AND (#text($2) IS NULL OR payload ->> 'mode' = $2)
                AND (#bigint($3) IS NULL OR id < $3)
            ORDER BY id DESC LIMIT $4
            """, [.int(Int64(clientID)), .optional(mode?.rawValue), page.before, page.fetch])
        return try rows.map { row throws(MemoryError) in try record(row) }.compactMap { $0 }
    }

    /// Which of these clients have agent memories, and which have reflections; most have neither.
    func kinds(_ clientIDs: [Int]) throws(MemoryError) -> [Int: Set<RecallRequest.Source>] {
        var kinds: [Int: Set<RecallRequest.Source>] = [:]
        let clients = Array(Set(clientIDs))
        for row in try session.query(Self.kindsOfClients, [.ints(clients.map(Int64.init))]) {
            let client = Int(clamping: try row.int(0))
            kinds[client] = [.events]
            if try row.bool(1) { kinds[client]?.insert(.agentMemories) }
            if try row.bool(2) { kinds[client]?.insert(.dailyThreads) }
        }
        return kinds
    }

    private static let kindsOfClients = SQL(
        postgres: """
            SELECT id, EXISTS (SELECT 1 FROM events WHERE client_id = wanted.id AND event_type LIKE 'agent_memory:%'),
                EXISTS (SELECT 1 FROM events WHERE client_id = wanted.id AND event_type = 'reflection')
            FROM unnest($1::int[]) AS wanted (id)
            """,
        sqlite: """
            SELECT value, EXISTS (SELECT 1 FROM events WHERE client_id = value AND event_type LIKE 'agent_memory:%'),
                EXISTS (SELECT 1 FROM events WHERE client_id = value AND event_type = 'reflection')
            FROM json_each($1)
            """)

    /// How many memories there are, and of how many clients.
    func counts() throws(MemoryError) -> (memories: Int, clients: Int) {
        let rows = try session.query(
            "SELECT count(*), count(DISTINCT client_id) FROM events WHERE #record(event_type)", [])
        guard let row = rows.first else { return (0, 0) }
        return (Int(clamping: try row.int(0)), Int(clamping: try row.int(1)))
    }

    /// Memories whose text has any of some words, best first, by the primary store's own full text. Of the words, which
    /// are letters and digits, there should be few: their number bounds the cost. Of the filter only what narrows the search
    /// is applied here; the caller checks every record against the whole.
    func search(
        _ words: [String], clientID: Int, filter: RecallFilter, limit: Int
    ) throws(MemoryError) -> [(record: MemoryRecord, rank: Double)] {
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
        _ words: [String], _ clientID: Int, _ filter: RecallFilter, _ limit: Int
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
                WHERE client_id = $1 AND #record(event_type)
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
        _ words: [String], _ clientID: Int, _ filter: RecallFilter, _ limit: Int
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

    // MARK: Changes

    /// Deletes a record.
    ///
    /// - Returns: the lease of the outbox row that asks for its point to go; nil when the client has no such record.
    func delete(_ key: RecordKey, lease: Duration) throws(MemoryError) -> OutboxRepository.Lease? {
        let gone = try session.query(
            "DELETE FROM events WHERE id = $1 AND client_id = $2 AND #record(event_type) RETURNING event_type",
            [.int(key.id), .int(Int64(key.clientID))])
        guard let row = gone.first else { return nil }
        guard let source = EventType.read(try row.text(0))?.source else {
            throw .badReply(.postgres, "an event type that is no record's")
        }
        return try OutboxRepository(session: session).enqueue(key, in: source.collection, lease: lease)
    }

    /// Writes a record that exists already in its new form; what it was goes into its history.
    ///
    /// - Returns: the lease of the outbox row that asks for its point to be made again, and the record's version now.
    func replace(
        _ old: MemoryRecord, with new: MemoryRecord, lease: Duration
    ) throws(MemoryError) -> (lease: OutboxRepository.Lease, version: Int64) {
        let earlier = try session.query(
            """
            INSERT INTO memory_history (event_id, version, content, tags, metadata)
            SELECT #int($1), coalesce(max(version), 0) + 1, #text($2), #jsonb($3), #jsonb($4)
            FROM memory_history WHERE event_id = $1
            RETURNING version
            """,
            [
                .int(old.id), .text(old.content), .text(JSON.array(old.tags.map(JSON.string)).encodedText),
                .text(old.metadata.encodedText),
            ])
        try session.execute(
            """
            UPDATE events SET event_type = $3, payload = #jsonb($4), metadata = #jsonb($5)
            WHERE id = $1 AND client_id = $2
            """,
            [
                .int(new.id), .int(Int64(new.clientID)), .text(EventType.of(new.kind, type: new.type)),
                .text(new.payload.encodedText), .text(new.metadata.encodedText),
            ])
        // A vector that came with the old content says nothing of the new.
        if !old.content.hasSameBytes(as: new.content) {
            try session.execute("DELETE FROM memory_embeddings WHERE event_id = $1", [.int(new.id)])
        }
        let key = RecordKey(id: new.id, clientID: new.clientID)
        guard let row = earlier.first else { throw .badReply(.postgres, "no version") }
        return (
            try OutboxRepository(session: session).enqueue(key, in: new.kind.source.collection, lease: lease),
            try row.int(0) + 1
        )
    }

    /// How often each of these records was written; once, where nothing is said. Read it before the records, where they are
    /// not locked: a point that claims to be newer than it is would keep the right one out.
    func versions(_ ids: [Int64]) throws(MemoryError) -> [Int64: Int64] {
        var versions: [Int64: Int64] = [:]
        let rows = try session.query(
            "SELECT event_id, max(version) + 1 FROM memory_history WHERE event_id #anyInt($1) GROUP BY event_id",
            [.ints(ids)])
        for row in rows { versions[try row.int(0)] = try row.int(1) }
        return versions
    }

    /// One record, which nobody else changes until this transaction ends.
    func locked(_ key: RecordKey) throws(MemoryError) -> MemoryRecord? {
        if session.dialect == .postgres {
            let found = try session.query(
                "SELECT 1 FROM events WHERE id = $1 AND client_id = $2 FOR UPDATE",
                [.int(key.id), .int(Int64(key.clientID))])
            guard !found.isEmpty else { return nil }
        }
        return try memories([key]).first
    }

    /// Puts an agent memory in the place of the one of that id.
    ///
    /// - Returns: nil when there is none, or the draft is none.
    func replaceAgentMemory(_ draft: MemoryDraft) throws(MemoryError) -> Memory.Changed? {
        guard case .agentMemory(let id) = draft.kind, let rowID = try agentMemory(id, clientID: draft.clientID),
            let old = try locked(RecordKey(id: rowID, clientID: draft.clientID))
        else { return nil }
        let new = MemoryRecord(draft, id: rowID, createdAt: old.createdAt)
        let (lease, version) = try replace(old, with: new, lease: OutboxWorker.inlineLease)
        return Memory.Changed(record: new, version: version, supplied: draft.embedding, lease: lease)
    }

    /// The id of the agent memory that has an extractor's id.
    private func agentMemory(_ id: String, clientID: Int) throws(MemoryError) -> Int64? {
        try session.query(
            """
            SELECT id FROM events
            WHERE client_id = $1 AND payload ->> 'memory_id' = $2 AND event_type LIKE 'agent_memory:%'
            """, [.int(Int64(clientID)), .text(id)]
        ).first?.int(0)
    }

    /// What a record was before each change, oldest first.
    func history(_ key: RecordKey) throws(MemoryError) -> [MemoryVersion] {
        let rows = try session.query(
            """
            SELECT h.version, h.content, #json(h.tags), #json(h.metadata), #time(h.changed_at)
            FROM memory_history h JOIN events e ON e.id = h.event_id
            WHERE h.event_id = $1 AND e.client_id = $2 ORDER BY h.version
            """, [.int(key.id), .int(Int64(key.clientID))])
        return try rows.map { row throws(MemoryError) in
            MemoryVersion(
                version: Int(clamping: try row.int(0)), content: try row.text(1),
                tags: (try row.json(2).array ?? []).compactMap(\.string),
                metadata: try row.json(3).object ?? JSONObject(), changedAt: try row.timestamp(4))
        }
    }

    /// What the text of every moment before this second comes before, and that of none after it: the digits of a fraction are
    /// as many as it needs, so that within a second text and time differ in order.
    private static func textualBound(_ now: Timestamp) -> String { String(now.description.prefix(19)) }

    /// Deletes records that have expired, at the latest a second after they did, a bounded number at a time, and asks for their points to go.
    ///
    /// - Returns: how many there were.
    func deleteExpired(now: Timestamp, limit: Int) throws(MemoryError) -> Int {
        let rows = try session.query(
            SQL(
                postgres: """
                    SELECT id, client_id FROM events
                    WHERE payload ? 'expires_at' AND (payload ->> 'expires_at') COLLATE "C" < $1
                        AND payload ->> 'expires_at' LIKE '____-%' AND #record(event_type)
                    LIMIT $2 FOR UPDATE SKIP LOCKED
                    """,
                sqlite: """
                    SELECT id, client_id FROM events
                    WHERE json_extract(payload, '$.expires_at') < $1
                        AND json_extract(payload, '$.expires_at') LIKE '____-%' AND #record(event_type) LIMIT $2
                    """), [.text(Self.textualBound(now)), .int(Int64(limit))])
        let keys = try rows.map { row throws(MemoryError) in
            RecordKey(id: try row.int(0), clientID: Int(clamping: try row.int(1)))
        }
        // In the order in which everybody locks rows of the outbox.
        for key in keys.sorted(by: { $0.id < $1.id }) { _ = try delete(key, lease: .zero) }
        return rows.count
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
