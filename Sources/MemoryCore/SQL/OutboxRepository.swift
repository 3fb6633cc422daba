/// Rows of `memory_outbox`: records whose points may differ from them.
struct OutboxRepository {
    let session: any SQLSession

    /// A row that somebody works on.
    struct Lease: Sendable {
        let collection: String
        let key: RecordKey
        let fence: Int64
        let attempts: Int
        /// Only the invalidation of caches is owed.
        let isStored: Bool
        /// Another's lease had not ended when this one began: an older write may be under way.
        let isShared: Bool
        /// When it ends, by our own clock: no write may be sent after it.
        let end: Deadline

        /// Whether its row is locked before that of another, by whoever locks several.
        func precedes(_ other: Lease) -> Bool { (key.id, collection) < (other.key.id, other.collection) }
    }

    /// A number that no lease ever had. By chance, not counted: a row that comes again would count through the numbers of
    /// its earlier life, and a late report would match one of them. There is room above for gateways that still count.
    static func newFence() -> Int64 { .random(in: 1 << 32...1 << 61) }

    /// Asks for a point to be brought in line with its record, by whoever holds the lease that is answered.
    func enqueue(
        _ key: RecordKey, in collection: VectorCollection, lease: Duration
    ) throws(MemoryError) -> Lease {
        let (fence, end) = (Self.newFence(), Deadline.after(lease))
        let rows = try session.query(
            SQL(
                postgres: """
                    INSERT INTO memory_outbox (collection, record_id, client_id, due_at, fence)
                    VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4::float8), $5)
                    ON CONFLICT (collection, record_id) DO UPDATE SET
                        fence = excluded.fence, state = 'pending', is_stored = FALSE, attempts = 0,
                        held_until = #held(memory_outbox), due_at = excluded.due_at
                    RETURNING coalesce(held_until > clock_timestamp(), FALSE)
                    """,
                sqlite: """
                    INSERT INTO memory_outbox (collection, record_id, client_id, due_at, fence) VALUES ($1, $2, $3,
                        CAST(((julianday('now') - 2440587.5) * 86400.0 + $4) * 1000000.0 AS INTEGER), $5)
                    ON CONFLICT (collection, record_id) DO UPDATE SET
                        fence = excluded.fence, state = 'pending', is_stored = 0, attempts = 0,
                        held_until = #held(memory_outbox), due_at = excluded.due_at
                    RETURNING coalesce(held_until > #now(), 0)
                    """),
            [
                .text(collection.description), .int(key.id), .int(Int64(key.clientID)),
                .double(lease.milliseconds / 1000), .int(fence),
            ])
        guard let row = rows.first else { throw .badReply(.postgres, "no lease") }
        return Lease(
            collection: collection.description, key: key, fence: fence, attempts: 0, isStored: false,
            isShared: try row.bool(0), end: end)
    }

    /// Takes rows whose points are owed and that are due. They are ours until the lease ends; then another worker may take
    /// them.
    ///
    /// Up to half of them go by turns, a few rows of each client in the order of their ids, so that nobody waits behind a
    /// client that has a hundred thousand; the others are the oldest, so that none waits for ever.
    ///
    /// `turn`: the client that had the last turn; it is moved on.
    func claim(limit: Int, lease: Duration, turn: inout Int) throws(MemoryError) -> [Lease] {
        let (fence, end) = (Self.newFence(), Deadline.after(lease))
        let chosen = try byTurns(limit: max(1, limit / 2), after: turn)
        turn = chosen.count < limit / 2 ? 0 : chosen.map(\.clientID).max() ?? 0
        let rows = try session.query(
            SQL(
                postgres: """
                    WITH turns AS (
                        SELECT id FROM memory_outbox
                        WHERE id #anyInt($1) AND state = 'pending' AND NOT is_stored AND due_at <= now()
                        FOR UPDATE SKIP LOCKED
                    ), oldest AS (
                        SELECT id FROM memory_outbox
                        WHERE state = 'pending' AND NOT is_stored AND due_at <= now() AND NOT id #anyInt($1)
                        ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
                    )
                    UPDATE memory_outbox SET due_at = now() + make_interval(secs => $3::float8), fence = $4
                    WHERE id IN (SELECT id FROM turns UNION SELECT id FROM oldest)
                    RETURNING collection, record_id, client_id, attempts, coalesce(held_until > now(), FALSE)
                    """,
                sqlite: """
                    UPDATE memory_outbox SET fence = $4,
                        due_at = CAST(((julianday('now') - 2440587.5) * 86400.0 + $3) * 1000000.0 AS INTEGER)
                    WHERE id #anyInt($1) OR id IN (
                        SELECT id FROM memory_outbox
                        WHERE state = 'pending' AND is_stored = 0 AND due_at <= #now() AND NOT id #anyInt($1)
                        ORDER BY due_at LIMIT $2)
                    RETURNING collection, record_id, client_id, attempts, coalesce(held_until > #now(), 0)
                    """),
            [
                .ints(chosen.map(\.id)), .int(Int64(limit - chosen.count)), .double(lease.milliseconds / 1000),
                .int(fence),
            ])
        return try rows.map { row throws(MemoryError) in try Self.lease(row, fence, isStored: false, end) }
    }

    /// Takes rows of which only the invalidation of caches is owed, oldest first.
    func claimStored(limit: Int, lease: Duration) throws(MemoryError) -> [Lease] {
        let (fence, end) = (Self.newFence(), Deadline.after(lease))
        let rows = try session.query(
            SQL(
                postgres: """
                    WITH due AS (
                        SELECT id FROM memory_outbox WHERE state = 'pending' AND is_stored AND due_at <= now()
                        ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
                    )
                    UPDATE memory_outbox SET due_at = now() + make_interval(secs => $2::float8), fence = $3
                    WHERE id IN (SELECT id FROM due)
                    RETURNING collection, record_id, client_id, attempts, coalesce(held_until > now(), FALSE)
                    """,
                sqlite: """
                    UPDATE memory_outbox SET fence = $3,
                        due_at = CAST(((julianday('now') - 2440587.5) * 86400.0 + $2) * 1000000.0 AS INTEGER)
                    WHERE id IN (
                        SELECT id FROM memory_outbox WHERE state = 'pending' AND is_stored = 1 AND due_at <= #now()
                        ORDER BY due_at LIMIT $1)
                    RETURNING collection, record_id, client_id, attempts, coalesce(held_until > #now(), 0)
                    """), [.int(Int64(limit)), .double(lease.milliseconds / 1000), .int(fence)])
        return try rows.map { row throws(MemoryError) in try Self.lease(row, fence, isStored: true, end) }
    }

    private static func lease(
        _ row: SQLRow, _ fence: Int64, isStored: Bool, _ end: Deadline
    ) throws(MemoryError) -> Lease {
        Lease(
            collection: try row.text(0),
            key: RecordKey(id: try row.int(1), clientID: Int(clamping: try row.int(2))), fence: fence,
            attempts: Int(clamping: try row.int(3)), isStored: isStored, isShared: try row.bool(4), end: end)
    }

    /// Rows that are due, at most eight of a client, of the clients after one.
    private func byTurns(
        limit: Int, after client: Int
    ) throws(MemoryError) -> [(id: Int64, clientID: Int)] {
        // From client to client through the index: at most a thousand of them, however many rows they have.
        try session.query(
            SQL(
                postgres: """
                    WITH RECURSIVE clients AS (
                        (SELECT client_id, due_at, 1 AS number FROM memory_outbox
                        WHERE state = 'pending' AND NOT is_stored AND client_id > $1 ORDER BY client_id, due_at LIMIT 1)
                        UNION ALL
                        SELECT next.client_id, next.due_at, clients.number + 1 FROM clients CROSS JOIN LATERAL (
                            SELECT client_id, due_at FROM memory_outbox
                            WHERE state = 'pending' AND NOT is_stored AND client_id > clients.client_id
                            ORDER BY client_id, due_at LIMIT 1) AS next
                        WHERE clients.number < 1000
                    )
                    SELECT due.id, clients.client_id FROM clients CROSS JOIN LATERAL (
                        SELECT id FROM memory_outbox
                        WHERE state = 'pending' AND NOT is_stored AND client_id = clients.client_id
                            AND due_at <= now()
                        ORDER BY due_at LIMIT 8) AS due
                    WHERE clients.due_at <= now() LIMIT $2
                    """,
                sqlite: """
                    WITH RECURSIVE clients (client_id, number) AS (
                        SELECT (SELECT min(client_id) FROM memory_outbox
                            WHERE state = 'pending' AND is_stored = 0 AND client_id > $1), 1
                        UNION ALL
                        SELECT (SELECT min(client_id) FROM memory_outbox
                            WHERE state = 'pending' AND is_stored = 0 AND client_id > clients.client_id), number + 1
                        FROM clients WHERE client_id IS NOT NULL AND number < 1000
                    )
                    SELECT due.id, due.client_id FROM clients CROSS JOIN memory_outbox AS due ON due.id IN (
                        SELECT id FROM memory_outbox
                        WHERE state = 'pending' AND is_stored = 0 AND client_id = clients.client_id
                            AND due_at <= #now()
                        ORDER BY due_at LIMIT 8)
                    LIMIT $2
                    """), [.int(Int64(client)), .int(Int64(limit))]
        ).map { row throws(MemoryError) in (try row.int(0), Int(clamping: try row.int(1))) }
    }

    /// Removes rows that are delivered. A row that changed since it was leased stays; and one that is gone comes back,
    /// because what we delivered may have come after what another worker did.
    func complete(_ leases: [Lease]) throws(MemoryError) {
        let stale =
            switch session.dialect {
            case .postgres: try removeTogether(leases)
            case .sqlite: try removeOneByOne(leases)
            }
        guard !stale.isEmpty else { return }
        try enqueueAgain(stale)
    }

    /// Removes rows in one statement, which locks them in the order in which everybody locks several; answers those that were not there with that fence.
    private func removeTogether(_ leases: [Lease]) throws(MemoryError) -> [Lease] {
        let gone = try session.query(
            """
            WITH locked AS (
                SELECT o.id, o.fence = done.fence AS is_ours FROM memory_outbox o
                JOIN unnest($1::text[], $2::bigint[], $3::bigint[]) AS done (collection, record_id, fence)
                    ON o.collection = done.collection AND o.record_id = done.record_id
                ORDER BY o.record_id, o.collection FOR UPDATE OF o
            )
            DELETE FROM memory_outbox WHERE id IN (SELECT id FROM locked WHERE is_ours)
            RETURNING collection, record_id, fence
            """,
            [.texts(leases.map(\.collection)), .ints(leases.map(\.key.id)), .ints(leases.map(\.fence))])
        guard gone.count < leases.count else { return [] }
        // Of two deliveries of one record only that with the row's fence counts: the other may have come after it.
        var completed: Set<String> = []
        for row in gone { completed.insert("\(try row.text(0))/\(try row.int(1))/\(try row.int(2))") }
        return leases.filter { !completed.contains("\($0.collection)/\($0.key.id)/\($0.fence)") }
    }

    private func removeOneByOne(_ leases: [Lease]) throws(MemoryError) -> [Lease] {
        var stale: [Lease] = []
        for lease in leases {
            let gone = try session.execute(
                "DELETE FROM memory_outbox WHERE collection = $1 AND record_id = $2 AND fence = $3",
                [.text(lease.collection), .int(lease.key.id), .int(lease.fence)])
            if gone == 0 { stale.append(lease) }
        }
        return stale
    }

    private func enqueueAgain(_ leases: [Lease]) throws(MemoryError) {
        for lease in leases.sorted(by: { $0.precedes($1) }) {
            try session.execute(
                SQL(
                    postgres: """
                        INSERT INTO memory_outbox (collection, record_id, client_id, fence) VALUES ($1, $2, $3, $4)
                        ON CONFLICT (collection, record_id) DO UPDATE SET fence = excluded.fence, is_stored = FALSE,
                            held_until = #held(memory_outbox), due_at = excluded.due_at
                        """,
                    sqlite: """
                        INSERT INTO memory_outbox (collection, record_id, client_id, fence) VALUES ($1, $2, $3, $4)
                        ON CONFLICT (collection, record_id) DO UPDATE SET fence = excluded.fence, is_stored = 0,
                            held_until = #held(memory_outbox), due_at = excluded.due_at
                        """),
                [
                    .text(lease.collection), .int(lease.key.id), .int(Int64(lease.key.clientID)),
                    .int(Self.newFence()),
                ])
        }
    }

    /// For a vector store that knows no versions: rows that were delivered while an older write may have been under way are
    /// delivered once more, when none can be any longer.
    func confirmLater(_ leases: [Lease]) throws(MemoryError) {
        var stale: [Lease] = []
        for lease in leases {
            let found = try session.execute(
                SQL(
                    postgres: """
                        UPDATE memory_outbox SET due_at = greatest(now(), held_until), fence = $4, is_stored = FALSE
                        WHERE collection = $1 AND record_id = $2 AND fence = $3
                        """,
                    sqlite: """
                        UPDATE memory_outbox SET due_at = max(#now(), coalesce(held_until, 0)), fence = $4, is_stored = 0
                        WHERE collection = $1 AND record_id = $2 AND fence = $3
                        """),
                [.text(lease.collection), .int(lease.key.id), .int(lease.fence), .int(Self.newFence())])
            if found == 0 { stale.append(lease) }
        }
        try enqueueAgain(stale)
    }

    /// A delivery that failed.
    struct Failure: Sendable {
        let lease: Lease
        /// A class of errors, not a message: it is shown to operators and must hold no data.
        let error: String
        let delay: Duration
        /// Whether the failure counts towards the dead-letter limit.
        let counts: Bool
        let isDead: Bool
        /// The vector store has it; only the invalidation of caches failed.
        let isStored: Bool
    }

    /// Sets rows back to be tried again, or marks them dead; rows that changed since are left to whoever changed them. What
    /// failed may still be under way until its lease ends; what is stored is not.
    func postpone(_ failures: [Failure]) throws(MemoryError) {
        for failure in failures.sorted(by: { $0.lease.precedes($1.lease) }) {
            try session.execute(
                SQL(
                    postgres: """
                        UPDATE memory_outbox SET held_until = CASE WHEN $8::int <> 0 THEN held_until ELSE greatest(held_until, due_at) END,
                            due_at = now() + make_interval(secs => $4::float8), last_error = $5,
                            attempts = attempts + $6::int, state = $7, is_stored = $8::int <> 0
                        WHERE collection = $1 AND record_id = $2 AND fence = $3
                        """,
                    sqlite: """
                        UPDATE memory_outbox SET last_error = $5, attempts = attempts + $6, state = $7, is_stored = $8,
                            held_until = CASE WHEN $8 THEN held_until ELSE max(coalesce(held_until, 0), due_at) END,
                            due_at = CAST(((julianday('now') - 2440587.5) * 86400.0 + $4) * 1000000.0 AS INTEGER)
                        WHERE collection = $1 AND record_id = $2 AND fence = $3
                        """),
                [
                    .text(failure.lease.collection), .int(failure.lease.key.id), .int(failure.lease.fence),
                    .double(failure.delay.milliseconds / 1000), .text(String(failure.error.prefix(100))),
                    .int(failure.counts ? 1 : 0), .text(failure.isDead ? "dead" : "pending"),
                    .int(failure.isStored ? 1 : 0),
                ])
        }
    }

    /// Asks for every memory's point to be made again.
    ///
    /// - Returns: how many there are.
    func enqueueAll() throws(MemoryError) -> Int {
        try session.execute(
            """
            INSERT INTO memory_outbox (collection, record_id, client_id, fence)
            SELECT #collection(event_type),
                id, client_id, #bigint($1) FROM events WHERE #record(event_type)
            UNION ALL SELECT 'doc_chunks', id, client_id, $1 FROM document_chunks ORDER BY 2, 1
            ON CONFLICT (collection, record_id) DO UPDATE SET fence = excluded.fence, held_until = #held(memory_outbox),
                state = 'pending', is_stored = FALSE, attempts = 0, due_at = excluded.due_at
            """, [.int(Self.newFence())])
    }

    /// Rows that were given up on, oldest first.
    func deadLetters(limit: Int) throws(MemoryError) -> [Memory.DeadLetter] {
        try session.query(
            SQL(
                postgres: """
                    SELECT collection, record_id, client_id, attempts, coalesce(last_error, ''), #time(created_at)
                    FROM memory_outbox WHERE state = 'dead' ORDER BY id LIMIT $1
                    """,
                sqlite: """
                    SELECT collection, record_id, client_id, attempts, coalesce(last_error, ''), created_at
                    FROM memory_outbox WHERE state = 'dead' ORDER BY id LIMIT $1
                    """), [.int(Int64(limit))]
        ).map { row throws(MemoryError) in
            Memory.DeadLetter(
                collection: try row.text(0), recordID: try row.int(1), clientID: Int(clamping: try row.int(2)),
                attempts: Int(clamping: try row.int(3)), lastError: try row.text(4), createdAt: try row.timestamp(5))
        }
    }

    /// Makes every dead row a pending one that is due.
    ///
    /// - Returns: how many there were.
    func retryDead() throws(MemoryError) -> Int {
        try session.execute(
            SQL(
                postgres: """
                    UPDATE memory_outbox SET state = 'pending', attempts = 0, fence = $1, due_at = now()
                    WHERE id IN (
                        SELECT id FROM memory_outbox WHERE state = 'dead' ORDER BY record_id, collection FOR UPDATE)
                    """,
                sqlite: """
                    UPDATE memory_outbox SET state = 'pending', attempts = 0, fence = $1, due_at = #now()
                    WHERE state = 'dead'
                    """), [.int(Self.newFence())])
    }

    /// How long ago the oldest row was made that waits for its delivery.
    func age() throws(MemoryError) -> Duration {
        let rows = try session.query(Self.oldest, [])
        return .seconds(max(0, try rows.first?.optionalDouble(0) ?? 0))
    }

    private static let oldest = SQL(
        postgres: """
            SELECT extract(epoch FROM now() - min(created_at))::float8 FROM memory_outbox WHERE state = 'pending'
            """,
        sqlite: """
            SELECT (julianday('now') - 2440587.5) * 86400.0 - min(created_at) / 1e6 FROM memory_outbox
            WHERE state = 'pending'
            """)

    /// How many rows and erasures wait, and how many rows are dead.
    func counts() throws(MemoryError) -> (pending: Int, dead: Int) {
        let rows = try session.query(
            """
            SELECT count(*) FILTER (WHERE state = 'pending') + (SELECT count(*) FROM memory_erasures),
                count(*) FILTER (WHERE state = 'dead')
            FROM memory_outbox
            """, [])
        guard let row = rows.first else { return (0, 0) }
        return (Int(clamping: try row.int(0)), Int(clamping: try row.int(1)))
    }
}
