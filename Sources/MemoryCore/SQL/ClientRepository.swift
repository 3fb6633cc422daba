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

    /// Which of these clients have a profile.
    func existing(_ ids: [Int]) throws(MemoryError) -> Set<Int> {
        let rows = try session.query(
            SQL(
                postgres: "SELECT client_id FROM client_profiles WHERE client_id = ANY ($1::int[])",
                sqlite: "SELECT client_id FROM client_profiles WHERE client_id IN (SELECT value FROM json_each($1))"),
            [.ints(ids.map(Int64.init))])
        var existing: Set<Int> = []
        for row in rows { existing.insert(Int(clamping: try row.int(0))) }
        return existing
    }
}
