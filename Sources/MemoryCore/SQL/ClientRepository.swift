/// Rows of `client_profiles`.
struct ClientRepository {
    let session: any SQLSession

    /// Gives each client that has no profile one, with the user id `client-<id>`.
    func create(_ ids: [Int]) throws(MemoryError) {
        try session.execute(
            """
            INSERT INTO client_profiles (client_id, user_id)
            SELECT id, 'client-' || id FROM unnest($1::int[]) AS t (id) ON CONFLICT DO NOTHING
            """, [.ints(ids.map(Int64.init))])
    }

    /// Which of these clients have a profile.
    func existing(_ ids: [Int]) throws(MemoryError) -> Set<Int> {
        let rows = try session.query(
            "SELECT client_id FROM client_profiles WHERE client_id = ANY ($1::int[])", [.ints(ids.map(Int64.init))])
        var existing: Set<Int> = []
        for row in rows { existing.insert(Int(clamping: try row.int(0))) }
        return existing
    }
}
