/// Rows of `memory_erasures`: clients whose erasure short-term memory does not have yet.
struct ErasureRepository {
    let session: any SQLSession

    /// The right to erase a client from short-term memory, until the lease ends.
    struct Lease: Sendable {
        let clientID: Int
        fileprivate let fence: Int64
    }

    /// Notes, in the transaction that erases a client, that short-term memory must follow.
    func owe(_ clientID: Int, lease: Duration) throws(MemoryError) -> Lease {
        let fence = OutboxRepository.newFence()
        try session.execute(
            SQL(
                postgres: """
                    INSERT INTO memory_erasures (client_id, fence, due_at)
                    VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3::float8))
                    ON CONFLICT (client_id) DO UPDATE SET fence = excluded.fence, due_at = excluded.due_at
                    """,
                sqlite: """
                    INSERT INTO memory_erasures (client_id, fence, due_at) VALUES ($1, $2,
                        CAST(((julianday('now') - 2440587.5) * 86400.0 + $3) * 1000000.0 AS INTEGER))
                    ON CONFLICT (client_id) DO UPDATE SET fence = excluded.fence, due_at = excluded.due_at
                    """),
            [.int(Int64(clientID)), .int(fence), .double(lease.milliseconds / 1000)])
        return Lease(clientID: clientID, fence: fence)
    }

    /// The clients that are owed, at most so many.
    func owed(limit: Int) throws(MemoryError) -> Set<Int> {
        let rows = try session.query(
            "SELECT client_id FROM memory_erasures LIMIT $1", [.int(Int64(limit))])
        return Set(try rows.map { row throws(MemoryError) in Int(clamping: try row.int(0)) })
    }

    /// Takes one that is due.
    func claim(lease: Duration) throws(MemoryError) -> Lease? {
        let fence = OutboxRepository.newFence()
        let rows = try session.query(
            SQL(
                postgres: """
                    UPDATE memory_erasures SET fence = $1, due_at = now() + make_interval(secs => $2::float8)
                    WHERE client_id = (
                        SELECT client_id FROM memory_erasures WHERE due_at <= now()
                        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
                    RETURNING client_id
                    """,
                sqlite: """
                    UPDATE memory_erasures SET fence = $1,
                        due_at = CAST(((julianday('now') - 2440587.5) * 86400.0 + $2) * 1000000.0 AS INTEGER)
                    WHERE client_id = (
                        SELECT client_id FROM memory_erasures WHERE due_at <= #now() ORDER BY due_at LIMIT 1)
                    RETURNING client_id
                    """), [.int(fence), .double(lease.milliseconds / 1000)])
        guard let row = rows.first else { return nil }
        return Lease(clientID: Int(clamping: try row.int(0)), fence: fence)
    }

    /// Notes that short-term memory has followed; another erasure of the client since then stays.
    func complete(_ lease: Lease) throws(MemoryError) {
        try session.execute(
            "DELETE FROM memory_erasures WHERE client_id = $1 AND fence = $2",
            [.int(Int64(lease.clientID)), .int(lease.fence)])
    }

    /// Leaves it to whoever comes next.
    func putBack(_ lease: Lease) throws(MemoryError) {
        try session.execute(
            SQL(
                postgres: "UPDATE memory_erasures SET due_at = now() WHERE client_id = $1 AND fence = $2",
                sqlite: "UPDATE memory_erasures SET due_at = #now() WHERE client_id = $1 AND fence = $2"),
            [.int(Int64(lease.clientID)), .int(lease.fence)])
    }
}
