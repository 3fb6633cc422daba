/// Documents and their chunks. Client 0 owns what everyone shares. A chunk is a document's when it is of the generation
/// that the document's row names.
struct DocumentRepository {
    let session: any SQLSession

    /// The client id of documents without a client.
    static let shared = 0

    // MARK: Reading

    /// Documents of these owners, newest first, before a cursor.
    func list(owners: [Int], page: PageRequest) throws(MemoryError) -> [Document] {
        let rows = try session.query(
            """
            SELECT d.id, d.client_id, d.doc_id, d.title, d.chunks, #json(d.metadata), #time(d.created_at),
                #time(d.updated_at), #text(NULL)
            FROM documents d
            WHERE d.client_id #anyInt($1) AND d.generation IS NOT NULL AND (#bigint($2) IS NULL OR d.id < $2)
            ORDER BY d.id DESC LIMIT $3
            """, [.ints(owners.map(Int64.init)), page.before, page.fetch])
        return try rows.map(Self.document)
    }

    /// The first of these owners' document of that id, with its text.
    func document(_ id: String, owners: [Int]) throws(MemoryError) -> Document? {
        let rows = try session.query(
            """
            SELECT d.id, d.client_id, d.doc_id, d.title, d.chunks, #json(d.metadata), #time(d.created_at),
                #time(d.updated_at), d.content
            FROM documents d WHERE d.client_id #anyInt($1) AND d.doc_id = $2 AND d.generation IS NOT NULL
            ORDER BY d.client_id DESC LIMIT 1
            """, [.ints(owners.map(Int64.init)), .text(id)])
        return try rows.first.map(Self.document)
    }

    private static func document(_ row: SQLRow) throws(MemoryError) -> Document {
        let client = Int(clamping: try row.int(1))
        return Document(
            rowID: try row.int(0), id: try row.text(2), clientID: client == shared ? nil : client,
            title: row.optionalText(3), chunks: Int(clamping: try row.int(4)),
            metadata: try row.json(5).object ?? JSONObject(), createdAt: try row.timestamp(6),
            updatedAt: try row.timestamp(7), content: row.optionalText(8))
    }

    /// Chunks by id that belong to these clients; others are left out.
    func chunks(_ keys: [RecordKey]) throws(MemoryError) -> [DocumentChunk] {
        let wanted = Set(keys)
        let rows = try session.query(
            """
            SELECT c.id, c.client_id, d.doc_id, c.chunk_index, c.content, #json(d.metadata), #time(d.updated_at)
            FROM document_chunks c JOIN documents d ON d.id = c.document_id AND d.generation = c.generation
            WHERE c.id #anyInt($1)
            """, [.ints(wanted.map(\.id))])
        return try rows.map(Self.chunk).filter { wanted.contains(RecordKey(id: $0.id, clientID: $0.clientID)) }
    }

    /// Chunks whose text has any of some words, best first: the full text that answers when vectors cannot.
    func search(
        _ words: [String], owners: [Int], documentID: String?, limit: Int
    ) throws(MemoryError) -> [DocumentChunk] {
        let isPostgres = session.dialect == .postgres
        let question =
            isPostgres
            ? words.map { "'\($0)'" }.joined(separator: " | ") : words.map { "\"\($0)\"" }.joined(separator: " OR ")
        let rows = try session.query(
            SQL(
                postgres: """
                    SELECT c.id, c.client_id, d.doc_id, c.chunk_index, c.content, #json(d.metadata), #time(d.updated_at)
                    FROM (
                        SELECT document_chunks.*, question FROM document_chunks, to_tsquery('english', $1) AS question
                        WHERE client_id #anyInt($2) AND to_tsvector('english', content) @@ question LIMIT 1000
                    ) c JOIN documents d ON d.id = c.document_id AND d.generation = c.generation
                    WHERE ($3::text IS NULL OR d.doc_id = $3)
                    ORDER BY ts_rank(to_tsvector('english', c.content), c.question) DESC, c.id LIMIT $4
                    """,
                sqlite: """
                    SELECT c.id, c.client_id, d.doc_id, c.chunk_index, c.content, d.metadata, d.updated_at
                    FROM document_text JOIN document_chunks c ON c.id = document_text.rowid
                    JOIN documents d ON d.id = c.document_id AND d.generation = c.generation
                    WHERE document_text MATCH $1 AND c.client_id #anyInt($2) AND ($3 IS NULL OR d.doc_id = $3)
                    ORDER BY bm25(document_text), c.id LIMIT $4
                    """),
            [.text(question), .ints(owners.map(Int64.init)), .optional(documentID), .int(Int64(limit))])
        return try rows.map(Self.chunk)
    }

    private static func chunk(_ row: SQLRow) throws(MemoryError) -> DocumentChunk {
        DocumentChunk(
            id: try row.int(0), clientID: Int(clamping: try row.int(1)), documentID: try row.text(2),
            index: Int(clamping: try row.int(3)), content: try row.text(4),
            metadata: try row.json(5).object ?? JSONObject(), createdAt: try row.timestamp(6))
    }
}
