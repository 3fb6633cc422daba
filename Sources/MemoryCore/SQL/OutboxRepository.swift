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
    }

    /// Asks for a point to be brought in line with its record, by whoever holds the lease that is answered.
    func enqueue(
        _ key: RecordKey, in collection: VectorCollection, lease: Duration
    ) throws(MemoryError) -> Lease {
        let rows = try session.query(
            SQL(
                postgres: """
                    INSERT INTO memory_outbox (collection, record_id, client_id, due_at)
                    VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4::float8))
                    ON CONFLICT (collection, record_id) DO UPDATE SET
                        fence = memory_outbox.fence + 1, state = 'pending', is_stored = FALSE, attempts = 0,
                        due_at = excluded.due_at
                    RETURNING fence
                    """,
                sqlite: """
                    INSERT INTO memory_outbox (collection, record_id, client_id, due_at) VALUES ($1, $2, $3,
                        CAST(((julianday('now') - 2440587.5) * 86400.0 + $4) * 1000000.0 AS INTEGER))
                    ON CONFLICT (collection, record_id) DO UPDATE SET
                        fence = memory_outbox.fence + 1, state = 'pending', is_stored = 0, attempts = 0,
                        due_at = excluded.due_at
                    RETURNING fence
                    """),
            [
                .text(collection.description), .int(key.id), .int(Int64(key.clientID)),
                .double(lease.milliseconds / 1000),
            ])
        guard let row = rows.first else { throw .badReply(.postgres, "no fence") }
        return Lease(
            collection: collection.description, key: key, fence: try row.int(0), attempts: 0, isStored: false)
    }

    /// Takes rows that are due. They are ours until the lease ends; then another worker may take them.
    ///
    /// Up to half of them go by turns, a few rows of each client in the order of their ids, so that nobody waits behind a
    /// client that has a hundred thousand; the others are the oldest, so that none waits for ever.
    ///
    /// `turn`: the client that had the last turn; it is moved on.
    func claim(limit: Int, lease: Duration, turn: inout Int) throws(MemoryError) -> [Lease] {
        let chosen = try byTurns(limit: max(1, limit / 2), after: turn)
        turn = chosen.count < limit / 2 ? 0 : chosen.map(\.clientID).max() ?? 0
        let rows = try session.query(
            SQL(
                postgres: """
                    WITH turns AS (
                        SELECT id FROM memory_outbox WHERE id #anyInt($1) AND state = 'pending' AND due_at <= now()
                        FOR UPDATE SKIP LOCKED
                    ), oldest AS (
                        SELECT id FROM memory_outbox
                        WHERE state = 'pending' AND due_at <= now() AND NOT id #anyInt($1)
                        ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
                    )
                    UPDATE memory_outbox SET due_at = now() + make_interval(secs => $3::float8), fence = fence + 1
                    WHERE id IN (SELECT id FROM turns UNION SELECT id FROM oldest)
                    RETURNING collection, record_id, client_id, fence, attempts, is_stored
                    """,
                sqlite: """
                    UPDATE memory_outbox SET fence = fence + 1,
                        due_at = CAST(((julianday('now') - 2440587.5) * 86400.0 + $3) * 1000000.0 AS INTEGER)
                    WHERE id #anyInt($1) OR id IN (
                        SELECT id FROM memory_outbox
                        WHERE state = 'pending' AND due_at <= #now() AND NOT id #anyInt($1)
                        ORDER BY due_at LIMIT $2)
                    RETURNING collection, record_id, client_id, fence, attempts, is_stored
                    """),
            [.ints(chosen.map(\.id)), .int(Int64(limit - chosen.count)), .double(lease.milliseconds / 1000)])
        var leases: [Lease] = []
        for row in rows {
            leases.append(
                Lease(
                    collection: try row.text(0),
                    key: RecordKey(id: try row.int(1), clientID: Int(clamping: try row.int(2))),
                    fence: try row.int(3), attempts: Int(clamping: try row.int(4)), isStored: try row.bool(5)))
        }
        return leases
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
                        WHERE state = 'pending' AND client_id > $1 ORDER BY client_id, due_at LIMIT 1)
                        UNION ALL
                        SELECT next.client_id, next.due_at, clients.number + 1 FROM clients CROSS JOIN LATERAL (
                            SELECT client_id, due_at FROM memory_outbox
                            WHERE state = 'pending' AND client_id > clients.client_id
                            ORDER BY client_id, due_at LIMIT 1) AS next
                        WHERE clients.number < 1000
                    )
                    SELECT due.id, clients.client_id FROM clients CROSS JOIN LATERAL (
                        SELECT id FROM memory_outbox
                        WHERE state = 'pending' AND client_id = clients.client_id AND due_at <= now()
                        ORDER BY due_at LIMIT 8) AS due
                    WHERE clients.due_at <= now() LIMIT $2
                    """,
                sqlite: """
                    WITH RECURSIVE clients (client_id, number) AS (
                        SELECT (SELECT min(client_id) FROM memory_outbox
                            WHERE state = 'pending' AND client_id > $1), 1
                        UNION ALL
                        SELECT (SELECT min(client_id) FROM memory_outbox
                            WHERE state = 'pending' AND client_id > clients.client_id), number + 1
                        FROM clients WHERE client_id IS NOT NULL AND number < 1000
                    )
                    SELECT due.id, due.client_id FROM clients CROSS JOIN memory_outbox AS due ON due.id IN (
                        SELECT id FROM memory_outbox
                        WHERE state = 'pending' AND client_id = clients.client_id AND due_at <= #now()
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

    /// Removes rows in one statement; answers those that were not there with that fence.
    private func removeTogether(_ leases: [Lease]) throws(MemoryError) -> [Lease] {
        let gone = try session.query(
            """
            DELETE FROM memory_outbox o
            USING unnest($1::text[], $2::bigint[], $3::bigint[]) AS done (collection, record_id, fence)
            WHERE o.collection = done.collection AND o.record_id = done.record_id AND o.fence = done.fence
            RETURNING o.collection, o.record_id, o.fence
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
        for lease in leases {
            try session.execute(
                SQL(
                    postgres: """
                        INSERT INTO memory_outbox (collection, record_id, client_id) VALUES ($1, $2, $3)
                        ON CONFLICT (collection, record_id) DO UPDATE SET
                            fence = memory_outbox.fence + 1, is_stored = FALSE, due_at = excluded.due_at
                        """,
                    sqlite: """
                        INSERT INTO memory_outbox (collection, record_id, client_id) VALUES ($1, $2, $3)
                        ON CONFLICT (collection, record_id) DO UPDATE SET
                            fence = memory_outbox.fence + 1, is_stored = 0, due_at = excluded.due_at
                        """),
                [.text(lease.collection), .int(lease.key.id), .int(Int64(lease.key.clientID))])
        }
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

    /// Sets rows back to be tried again, or marks them dead; rows that changed since are left to whoever changed them.
    func postpone(_ failures: [Failure]) throws(MemoryError) {
        for failure in failures {
            try session.execute(
                SQL(
                    postgres: """
                        UPDATE memory_outbox SET due_at = now() + make_interval(secs => $4::float8), last_error = $5,
                            attempts = attempts + $6::int, state = $7, is_stored = $8::int <> 0
                        WHERE collection = $1 AND record_id = $2 AND fence = $3
                        """,
                    sqlite: """
                        UPDATE memory_outbox SET last_error = $5, attempts = attempts + $6, state = $7, is_stored = $8,
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
            INSERT INTO memory_outbox (collection, record_id, client_id)
            SELECT #collection(event_type),
                id, client_id FROM events WHERE #record(event_type)
            UNION ALL SELECT 'doc_chunks', id, client_id FROM document_chunks ORDER BY 2
            ON CONFLICT (collection, record_id) DO UPDATE SET fence = memory_outbox.fence + 1,
                state = 'pending', is_stored = FALSE, attempts = 0, due_at = excluded.due_at
            """, [])
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
                    UPDATE memory_outbox SET state = 'pending', attempts = 0, fence = fence + 1, due_at = now()
                    WHERE state = 'dead'
                    """,
                sqlite: """
                    UPDATE memory_outbox SET state = 'pending', attempts = 0, fence = fence + 1, due_at = #now()
                    WHERE state = 'dead'
                    """), [])
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

    /// How many rows wait, and how many are dead.
    func counts() throws(MemoryError) -> (pending: Int, dead: Int) {
        let rows = try session.query(
            """
            SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'dead') FROM memory_outbox
            """, [])
        guard let row = rows.first else { return (0, 0) }
        return (Int(clamping: try row.int(0)), Int(clamping: try row.int(1)))
    }
}
