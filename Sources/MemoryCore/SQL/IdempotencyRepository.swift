/// The first answers of requests that carried an idempotency key.
struct IdempotencyRepository {
    let session: any SQLSession

    /// Which request a key stands for.
    struct Key: Sendable {
        let clientID: Int
        let key: String
        let requestHash: [UInt8]
    }

    /// What was done for a key before.
    struct Earlier: Sendable {
        let eventIDs: [Int64]
        /// The answer, once it was given; nil when the gateway was stopped in between.
        let response: String?
    }

    /// Takes a key for this transaction; whoever holds the same key is waited for. Keys older than 24 hours are free again.
    ///
    /// - Returns: nil when the key was free, else what was done for it.
    /// - Throws: ``MemoryError`` with `conflict` when it stands for another request.
    func take(_ key: Key) throws(MemoryError) -> Earlier? {
        for _ in 0..<3 {
            switch try taken(key) {
            case .free: return nil
            case .earlier(let earlier): return earlier
            // It met a key that ended before it could be read: now it is free.
            case .gone: continue
            }
        }
        throw .unavailable(session.dialect == .postgres ? .postgres : .sqlite, "a key that comes and goes")
    }

    private enum Taken {
        case free, gone
        case earlier(Earlier)
    }

    private func taken(_ key: Key) throws(MemoryError) -> Taken {
        let values: [SQLValue] = [.int(Int64(key.clientID)), .text(key.key), .bytes(key.requestHash)]
        try session.execute(
            SQL(
                postgres: """
                    DELETE FROM idempotency_keys
                    WHERE client_id = $1 AND key = $2 AND created_at < now() - interval '24 hours'
                    """,
                sqlite: """
                    DELETE FROM idempotency_keys WHERE client_id = $1 AND key = $2
                        AND created_at < CAST((julianday('now') - 1 - 2440587.5) * 86400000000.0 AS INTEGER)
                    """), Array(values.prefix(2)))
        let taken = try session.execute(
            """
            INSERT INTO idempotency_keys (client_id, key, request_hash) VALUES ($1, $2, $3)
            ON CONFLICT (client_id, key) DO NOTHING
            """, values)
        guard taken == 0 else { return .free }
        let rows = try session.query(
            SQL(
                postgres: """
                    SELECT request_hash, array_to_string(event_ids, ','), response FROM idempotency_keys
                    WHERE client_id = $1 AND key = $2
                    """,
                sqlite: """
                    SELECT request_hash, trim(event_ids, '[]'), response FROM idempotency_keys
                    WHERE client_id = $1 AND key = $2
                    """), Array(values.prefix(2)))
        guard let row = rows.first else { return .gone }
        guard try row.bytes(0) == key.requestHash else {
            throw MemoryError(.conflict, "This Idempotency-Key was used with another body")
        }
        let ids = try row.text(1).split(separator: ",").compactMap { Int64($0) }
        return .earlier(Earlier(eventIDs: ids, response: row.optionalText(2)))
    }

    /// Notes what was stored, in the transaction that stores it.
    func note(_ key: Key, eventIDs: [Int64]) throws(MemoryError) {
        try session.execute(
            SQL(
                postgres: "UPDATE idempotency_keys SET event_ids = $3::int[] WHERE client_id = $1 AND key = $2",
                sqlite: "UPDATE idempotency_keys SET event_ids = $3 WHERE client_id = $1 AND key = $2"),
            [.int(Int64(key.clientID)), .text(key.key), .ints(eventIDs)])
    }

    /// Keeps the answer.
    func answer(_ key: Key, _ response: String) throws(MemoryError) {
        try session.execute(
            "UPDATE idempotency_keys SET response = $3 WHERE client_id = $1 AND key = $2",
            [.int(Int64(key.clientID)), .text(key.key), .text(response)])
    }

    /// Forgets keys that are older than 24 hours, a bounded number at a time.
    ///
    /// - Returns: how many there were.
    func sweep() throws(MemoryError) -> Int {
        try session.execute(
            SQL(
                postgres: """
                    DELETE FROM idempotency_keys WHERE (client_id, key) IN (
                        SELECT client_id, key FROM idempotency_keys WHERE created_at < now() - interval '24 hours'
                        LIMIT 1000)
                    """,
                sqlite: """
                    DELETE FROM idempotency_keys WHERE rowid IN (
                        SELECT rowid FROM idempotency_keys
                        WHERE created_at < CAST((julianday('now') - 1 - 2440587.5) * 86400000000.0 AS INTEGER) LIMIT 1000)
                    """), [])
    }
}
