/// Rows of `client_profiles`.
struct ClientRepository {
    let session: any SQLSession

    /// Gives each client that has no profile one, with the user id `client-<id>`.
    func create(_ ids: [Int]) throws(MemoryError) {
        try session.execute(
            SQL(
                postgres: """
                    INSERT INTO client_profiles (client_id, user_id)
                    SELECT id, 'client-' || id FROM unnest($1::int[]) AS t (id) ON CONFLICT DO NOTHING
                    """,
                sqlite: """
                    INSERT INTO client_profiles (client_id, user_id)
                    SELECT value, 'client-' || value FROM json_each($1) WHERE true ON CONFLICT DO NOTHING
                    """), [.ints(ids.map(Int64.init))])
    }

    /// Which of these clients have a profile. They keep it until the transaction ends.
    func hold(_ ids: [Int]) throws(MemoryError) -> Set<Int> {
        let rows = try session.query(
            SQL(
                postgres: """
                    SELECT client_id FROM client_profiles WHERE client_id = ANY ($1::int[])
                    ORDER BY client_id FOR KEY SHARE
                    """,
                sqlite: "SELECT client_id FROM client_profiles WHERE client_id IN (SELECT value FROM json_each($1))"),
            [.ints(ids.map(Int64.init))])
        var held: Set<Int> = []
        for row in rows { held.insert(Int(clamping: try row.int(0))) }
        return held
    }

    // MARK: Erasing

    /// Asks for all of a client's points to go, and keeps others from writing for the client until the transaction ends.
    ///
    /// - Returns: the points, up to a limit.
    func enqueuePoints(of clientID: Int, limit: Int) throws(MemoryError) -> [(collection: String, id: Int64)] {
        let client = SQLValue.int(Int64(clientID))
        if session.dialect == .postgres {
            try session.script("SET LOCAL statement_timeout = '30s'")
            try holdAlone(clientID)
            // Everybody locks a record, or a document, before its outbox row.
            _ = try session.query("SELECT 1 FROM documents WHERE client_id = $1 ORDER BY id FOR UPDATE", [client])
            _ = try session.query(
                "SELECT count(*) FROM (SELECT 1 FROM events WHERE client_id = $1 FOR UPDATE) AS locked", [client])
        }
        try session.execute(
            """
            INSERT INTO memory_outbox (collection, record_id, client_id, fence)
            SELECT #collection(event_type),
                id, client_id, #bigint($2) FROM events WHERE client_id = $1 AND #record(event_type)
            UNION ALL SELECT 'doc_chunks', c.id, c.client_id, $2 FROM documents d
            JOIN document_chunks c ON c.document_id = d.id WHERE d.client_id = $1 ORDER BY 2, 1
            ON CONFLICT (collection, record_id) DO UPDATE SET fence = excluded.fence, held_until = #held(memory_outbox),
                state = 'pending', is_stored = FALSE, attempts = 0, due_at = excluded.due_at
            """, [client, .int(OutboxRepository.newFence())])
        let rows = try session.query(
            "SELECT collection, record_id FROM memory_outbox WHERE client_id = $1 AND state = 'pending' AND NOT is_stored LIMIT $2",
            [client, .int(Int64(limit))])
        return try rows.map { row throws(MemoryError) in (try row.text(0), try row.int(1)) }
    }

    /// Locks a client's profile, which is made where there is none: whoever writes for the client holds a share of its row,
    /// and waits for this transaction.
    private func holdAlone(_ clientID: Int) throws(MemoryError) {
        // One that another erasure is about to delete is there until it is gone.
        for _ in 0..<5 {
            try create([clientID])
            let held = try session.query(
                "SELECT 1 FROM client_profiles WHERE client_id = $1 FOR UPDATE", [.int(Int64(clientID))])
            if !held.isEmpty { return }
        }
        throw .unavailable(.postgres, "a profile that is deleted over and over")
    }

    /// Deletes everything of a client but the outbox rows, and counts it.
    func erase(
        _ clientID: Int
    ) throws(MemoryError) -> (memories: Int, events: Int, documents: Int, plans: Int) {
        let client = [SQLValue.int(Int64(clientID))]
        let memories = try session.execute("DELETE FROM events WHERE client_id = $1 AND #record(event_type)", client)
        let events = try session.execute("DELETE FROM events WHERE client_id = $1", client)
        let documents = try session.execute(
            "DELETE FROM documents WHERE client_id = $1 AND generation IS NOT NULL", client)
        // What is being ingested.
        try session.execute("DELETE FROM documents WHERE client_id = $1", client)
        try session.execute("DELETE FROM scheduler_runs WHERE client_id = $1", client)
        let plans = try session.execute("DELETE FROM plans WHERE client_id = $1", client)
        try session.execute("DELETE FROM idempotency_keys WHERE client_id = $1", client)
        try session.execute("DELETE FROM client_profiles WHERE client_id = $1", client)
        return (memories, events, documents, plans)
    }
}
