/// Rows of `api_keys`.
struct KeyRepository {
    let session: any SQLSession

    func insert(_ draft: APIKeyDraft, key: Secret) throws(MemoryError) -> APIKey {
        let clients = draft.clients.map { Set($0).sorted().map { String($0) }.joined(separator: ",") }
        let sharing = draft.sharing ?? (draft.clients == nil ? .write : .none)
        let rows = try session.query(
            """
            INSERT INTO api_keys (name, hint, hash, clients, can_write, can_share, can_read_shared, expires_at)
            VALUES ($1, $2, $3, $4, #bool($5), #bool($6), #bool($7), #moment($8)) RETURNING id
            """,
            [
                .text(draft.name), .text(String(key.revealed.prefix(8))), .bytes(sha256(plain: key.revealed)),
                .optional(clients), .int(draft.canWrite ? 1 : 0),
                .int(sharing == .write ? 1 : 0), .int(sharing >= .read ? 1 : 0), .optional(draft.expiresAt),
            ])
        guard let id = try rows.first?.int(0), let stored = try keys().first(where: { $0.id == id }) else {
            throw .badReply(.postgres, "no key id")
        }
        return stored
    }

    /// Every key, newest first.
    func keys() throws(MemoryError) -> [APIKey] { try hashes().map(\.key) }

    /// Every key with its hash, newest first.
    func hashes() throws(MemoryError) -> [(key: APIKey, hash: [UInt8])] {
        let rows = try session.query(
            """
            SELECT id, name, hint, clients, can_write, can_share, can_read_shared, #time(created_at), #time(expires_at),
                #time(revoked_at), hash
            FROM api_keys ORDER BY id DESC
            """, [])
        return try rows.map { row throws(MemoryError) in
            let key = APIKey(
                id: try row.int(0), name: try row.text(1), hint: try row.text(2),
                clients: row.optionalText(3).map { $0.split(separator: ",").compactMap { Int($0) } },
                canWrite: try row.bool(4),
                sharing: try row.bool(5) ? .write : try row.bool(6) ? .read : .none,
                createdAt: try row.timestamp(7), expiresAt: try row.optionalTimestamp(8),
                revokedAt: try row.optionalTimestamp(9))
            return (key, try row.bytes(10))
        }
    }

    /// - Returns: whether there was such a key that was not revoked before.
    func revoke(_ id: Int64) throws(MemoryError) -> Bool {
        try session.execute(
            "UPDATE api_keys SET revoked_at = #now() WHERE id = $1 AND revoked_at IS NULL", [.int(id)]) > 0
    }
}
