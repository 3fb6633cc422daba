/// How a document takes the place of another.
///
/// Its chunks are staged slice by slice under a generation of their own, which nobody reads. One transaction makes that
/// generation the document's, and asks for the points of the old and the new chunks. What is no longer read goes slice by
/// slice. So no writer holds the database for longer than a slice takes, and no reader sees a part of a document.
extension DocumentRepository {
    /// How many chunks are written in one transaction.
    static let slice = 500
    /// After this, staged chunks are those of a gateway that was stopped: no ingestion takes as long.
    private static let longestStaging: Duration = .seconds(600)

    /// A document whose chunks are being staged.
    struct Staging: Sendable {
        let id: Int64
        let clientID: Int
        let generation: Int64
    }

    /// What a replacement asks for.
    struct Replaced: Sendable {
        /// The leases of the new chunks that the caller delivers, by the chunk's place.
        var new: [Int: OutboxRepository.Lease] = [:]
        /// The leases of the chunks that go.
        var gone: [OutboxRepository.Lease] = []
    }

    // MARK: Staging

    /// Begins to stage a document.
    ///
    /// `isKept`: whether the chunks outlive this transaction without being the document's.
    func stage(
        _ draft: DocumentDraft, generation: Int64, isKept: Bool
    ) throws(MemoryError) -> Staging {
        let client = draft.owner.clientID ?? Self.shared
        let rows = try session.query(
            """
            INSERT INTO documents (client_id, doc_id, content, metadata, chunks, generation)
            VALUES ($1, $2, '', '{}', 0, NULL)
            ON CONFLICT (client_id, doc_id) DO UPDATE SET doc_id = excluded.doc_id RETURNING id
            """, [.int(Int64(client)), .text(draft.id)])
        guard let id = try rows.first?.int(0) else { throw .badReply(.postgres, "no document id") }
        let staging = Staging(id: id, clientID: client, generation: generation)
        if isKept { try leaveRemnant(staging, after: Self.longestStaging) }
        return staging
    }

    /// Stages some chunks, the first of which has a place in the document.
    ///
    /// - Returns: their ids, in order.
    /// - Throws: ``MemoryError`` with `unprocessable` when the document was deleted in between.
    func insert(_ chunks: ArraySlice<String>, into staging: Staging) throws(MemoryError) -> [Int64] {
        let rows = try session.query(
            SQL(
                postgres: """
                    INSERT INTO document_chunks (document_id, client_id, generation, chunk_index, content)
                    SELECT $1::bigint, $2::int, $3::bigint, $5::int + position - 1, content
                    FROM unnest($4::text[]) WITH ORDINALITY AS t (content, position) ORDER BY position
                    RETURNING id
                    """,
                sqlite: """
                    INSERT INTO document_chunks (document_id, client_id, generation, chunk_index, content)
                    SELECT $1, $2, $3, $5 + key, value FROM json_each($4) ORDER BY key
                    RETURNING id
                    """),
            [
                .int(staging.id), .int(Int64(staging.clientID)), .int(staging.generation), .texts(Array(chunks)),
                .int(Int64(chunks.startIndex)),
            ])
        // The ids were given in the order of the rows.
        return try rows.map { row throws(MemoryError) in try row.int(0) }.sorted()
    }

    // MARK: Replacing

    /// Makes staged chunks the document's.
    ///
    /// - Parameters:
    ///   - draft: the document.
    ///   - ids: its chunks.
    ///   - staging: where they are.
    ///   - delivered: how many the caller delivers, the first; the others are left to the outbox at once.
    ///   - lease: for how long they are the caller's.
    /// - Returns: nil when what was staged is not there any more.
    /// - Throws: ``MemoryError`` of the primary store.
    func publish(
        _ draft: DocumentDraft, chunks ids: [Int64], of staging: Staging, delivered: Int, lease: Duration
    ) throws(MemoryError) -> Replaced? {
        guard let old = try lock(staging.id) else { return nil }
        if ids.count > Self.slice {
            guard try removeRemnant(staging.id, staging.generation) else { return nil }
        }
        try session.execute(
            """
            UPDATE documents SET title = $2, content = $3, metadata = #jsonb($4), chunks = $5, updated_at = #now(),
                created_at = CASE WHEN generation IS NULL THEN #now() ELSE created_at END, generation = $6
            WHERE id = $1
            """,
            [
                .int(staging.id), .optional(draft.title), .text(draft.content), .json(draft.metadata),
                .int(Int64(ids.count)), .int(staging.generation),
            ])
        let leases = try enqueue(
            staging, delivered: delivered, besides: old.generation, lease: lease)
        if let generation = old.generation { try discard(staging.id, generation, count: old.chunks) }
        var replaced = Replaced()
        let places = Dictionary(uniqueKeysWithValues: ids.enumerated().map { ($0.element, $0.offset) })
        for lease in leases {
            if let place = places[lease.key.id] {
                if place < delivered { replaced.new[place] = lease }
            } else {
                replaced.gone.append(lease)
            }
        }
        return replaced
    }

    /// Deletes a document.
    ///
    /// - Returns: the leases of the points that must go; nil when there is no such document.
    func delete(_ id: String, clientID: Int, lease: Duration) throws(MemoryError) -> [OutboxRepository.Lease]? {
        let rows = try session.query(
            "SELECT id FROM documents WHERE client_id = $1 AND doc_id = $2", [.int(Int64(clientID)), .text(id)])
        guard let document = try rows.first?.int(0), let old = try lock(document, forDeletion: true),
            let generation = old.generation
        else { return nil }
        let gone = Staging(id: document, clientID: clientID, generation: generation)
        let leases = try enqueue(gone, delivered: .max, besides: nil, lease: lease)
        guard old.chunks > Self.slice else {
            try session.execute("DELETE FROM documents WHERE id = $1", [.int(document)])
            return leases
        }
        try session.execute(
            """
            UPDATE documents SET title = NULL, content = '', metadata = '{}', chunks = 0, generation = NULL WHERE id = $1
            """, [.int(document)])
        try discard(document, generation, count: old.chunks)
        return leases
    }

    /// Locks a document's row until this transaction ends.
    private func lock(
        _ id: Int64, forDeletion: Bool = false
    ) throws(MemoryError) -> (generation: Int64?, chunks: Int)? {
        let rows = try session.query(
            forDeletion
                ? SQL(
                    postgres: "SELECT generation, chunks FROM documents WHERE id = $1 FOR UPDATE",
                    sqlite: "SELECT generation, chunks FROM documents WHERE id = $1")
                : SQL(
                    postgres: "SELECT generation, chunks FROM documents WHERE id = $1 FOR NO KEY UPDATE",
                    sqlite: "SELECT generation, chunks FROM documents WHERE id = $1"), [.int(id)])
        return try rows.first.map { row throws(MemoryError) in
            (try row.optionalInt(0), Int(clamping: try row.int(1)))
        }
    }

    /// Asks for the points of a generation, and those of the one before, to be brought in line.
    private func enqueue(
        _ staging: Staging, delivered: Int, besides old: Int64?, lease: Duration
    ) throws(MemoryError) -> [OutboxRepository.Lease] {
        let (fence, end) = (OutboxRepository.newFence(), Deadline.after(lease))
        let rows = try session.query(
            SQL(
                postgres: """
                    INSERT INTO memory_outbox (collection, record_id, client_id, due_at, fence)
                    SELECT 'doc_chunks', id, client_id, clock_timestamp() + make_interval(
                        secs => CASE WHEN generation = $2 AND chunk_index >= $4::bigint THEN 0 ELSE $5::float8 END), $6::bigint
                    FROM document_chunks WHERE document_id = $1 AND (generation = $2 OR generation = $3) ORDER BY id
                    ON CONFLICT (collection, record_id) DO UPDATE SET
                        fence = excluded.fence, state = 'pending', is_stored = FALSE, attempts = 0,
                        held_until = #held(memory_outbox), due_at = excluded.due_at
                    RETURNING record_id, coalesce(held_until > clock_timestamp(), FALSE)
                    """,
                sqlite: """
                    INSERT INTO memory_outbox (collection, record_id, client_id, due_at, fence)
                    SELECT 'doc_chunks', id, client_id, CAST(((julianday('now') - 2440587.5) * 86400.0
                        + CASE WHEN generation = $2 AND chunk_index >= $4 THEN 0 ELSE $5 END) * 1000000.0 AS INTEGER), $6
                    FROM document_chunks WHERE document_id = $1 AND (generation = $2 OR generation = $3) ORDER BY id
                    ON CONFLICT (collection, record_id) DO UPDATE SET
                        fence = excluded.fence, state = 'pending', is_stored = 0, attempts = 0,
                        held_until = #held(memory_outbox), due_at = excluded.due_at
                    RETURNING record_id, coalesce(held_until > #now(), 0)
                    """),
            [
                .int(staging.id), .int(staging.generation), old.map(SQLValue.int) ?? .null, .int(Int64(delivered)),
                .double(lease.milliseconds / 1000), .int(fence),
            ])
        return try rows.map { row throws(MemoryError) in
            OutboxRepository.Lease(
                collection: VectorCollection.docChunks.description,
                key: RecordKey(id: try row.int(0), clientID: staging.clientID), fence: fence, attempts: 0,
                isStored: false, isShared: try row.bool(1), end: end)
        }
    }

    // MARK: What is left

    /// Removes chunks that are no longer the document's: at once when they are few, else slice by slice later.
    private func discard(_ id: Int64, _ generation: Int64, count: Int) throws(MemoryError) {
        guard count > Self.slice else {
            try session.execute(
                "DELETE FROM document_chunks WHERE document_id = $1 AND generation = $2", [.int(id), .int(generation)])
            return
        }
        try leaveRemnant(Staging(id: id, clientID: Self.shared, generation: generation), after: .zero)
    }

    private func leaveRemnant(_ staging: Staging, after delay: Duration) throws(MemoryError) {
        try session.execute(
            SQL(
                postgres: """
                    INSERT INTO document_remnants (document_id, generation, due_at)
                    VALUES ($1, $2, now() + make_interval(secs => $3::float8))
                    """,
                sqlite: """
                    INSERT INTO document_remnants (document_id, generation, due_at)
                    VALUES ($1, $2, CAST(((julianday('now') - 2440587.5) * 86400.0 + $3) * 1000000.0 AS INTEGER))
                    """), [.int(staging.id), .int(staging.generation), .double(delay.milliseconds / 1000)])
    }

    private func removeRemnant(_ id: Int64, _ generation: Int64) throws(MemoryError) -> Bool {
        try session.execute(
            "DELETE FROM document_remnants WHERE document_id = $1 AND generation = $2", [.int(id), .int(generation)])
            > 0
    }

    /// Removes a slice of chunks that are nobody's, and a document's row when nothing of it is left.
    ///
    /// - Returns: whether there may be more.
    func sweepRemnants() throws(MemoryError) -> Bool {
        let rows = try session.query(
            SQL(
                postgres: """
                    SELECT document_id, generation FROM document_remnants WHERE due_at <= now()
                    LIMIT 1 FOR UPDATE SKIP LOCKED
                    """,
                sqlite: "SELECT document_id, generation FROM document_remnants WHERE due_at <= #now() LIMIT 1"), [])
        guard let row = rows.first else { return false }
        let (id, generation) = (try row.int(0), try row.int(1))
        let gone = try session.execute(
            """
            DELETE FROM document_chunks WHERE id IN (
                SELECT id FROM document_chunks WHERE document_id = $1 AND generation = $2 LIMIT $3)
            """, [.int(id), .int(generation), .int(Int64(Self.slice))])
        guard gone < Self.slice else { return true }
        _ = try removeRemnant(id, generation)
        try session.execute(
            """
            DELETE FROM documents WHERE id = $1 AND generation IS NULL
                AND NOT EXISTS (SELECT 1 FROM document_remnants WHERE document_id = $1)
            """, [.int(id)])
        return true
    }
}
