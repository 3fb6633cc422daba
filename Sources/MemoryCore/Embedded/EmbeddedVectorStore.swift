import Synchronization

/// Vectors in SQLite, searched exactly: every vector of a client is compared, and nobody else's is looked at.
///
/// Dense vectors are read through a cache of limited size; words are looked up in an inverted index in the file.
final class EmbeddedVectorStore: VectorStore {
    let name = MemoryError.Store.embeddedVectors
    let parallelWrites = 1

    private typealias Place = VectorBlocks.Place

    private let database: any SQLDatabase
    /// Whether the file is this store's alone. Where it is the primary store's as well, a write need not be durable by
    /// itself: should power fail, the note in the outbox that it was delivered, which comes later, is lost with it.
    private let ownsDatabase: Bool
    private let maxCacheBytes: Int
    private let blocks: Mutex<VectorBlocks>

    /// Vectors in a file, which is closed with this store when nobody else uses it.
    init(_ database: any SQLDatabase, maxCacheBytes: Int, ownsDatabase: Bool) {
        self.database = database
        self.ownsDatabase = ownsDatabase
        self.maxCacheBytes = maxCacheBytes
        blocks = Mutex(VectorBlocks(capacity: maxCacheBytes))
    }

    // MARK: Writing

    func upsert(
        _ points: [VectorPoint], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) {
        let all = points.newest().map {
            (point: $0, dense: CompactVectors.encode($0.dense), payload: Self.payload($0).encodedText)
        }
        let rows = try await database.write(deadline: deadline, durable: ownsDatabase) { session throws(MemoryError) in
            let newer = try Self.newer(than: all.map(\.point), collection, session)
            let rows = all.filter { !newer.contains($0.point.subject.id) }
            let terms = Self.terms(rows.map(\.point))
            try Self.remove(rows.map(\.point.subject.id), collection, session)
            for row in rows {
                let subject = row.point.subject
                try session.execute(
                    """
                    INSERT INTO vector_points (collection, id, client_id, dense, payload, expires_at, version)
                    VALUES ($1, $2, $3, $4, $5, $6, $7)
                    """,
                    [
                        .text(collection.description), .int(subject.id), .int(Int64(subject.clientID)),
                        .bytes(row.dense), .text(row.payload),
                        subject.expiresAt.map { .int($0.microseconds) } ?? .null, .int(row.point.version),
                    ])
            }
            try session.execute(
                """
                INSERT INTO vector_terms (client_id, collection, term, id, weight)
                SELECT value ->> 0, $1, value ->> 1, value ->> 2, value ->> 3 FROM json_each($2)
                """, [.text(collection.description), .text(terms)])
            return rows
        }
        let changes = Dictionary(grouping: rows, by: \.point.subject.clientID).mapValues { rows in
            rows.map { VectorBlocks.Change(id: $0.point.subject.id, dense: $0.dense) }
        }
        blocks.withLock { blocks in
            for (client, changes) in changes {
                blocks.apply(changes, to: Place(clientID: client, collection: collection))
            }
        }
    }

    var keepsNewest: Bool { true }

    /// Which of these points are there in a newer version.
    private static func newer(
        than points: [VectorPoint], _ collection: VectorCollection, _ session: any SQLSession
    ) throws(MemoryError) -> Set<Int64> {
        let versions = try versions(of: points.map(\.subject.id), collection, session)
        return Set(points.filter { versions[$0.subject.id] ?? 0 > $0.version }.map(\.subject.id))
    }

    private static func versions(
        of ids: [Int64], _ collection: VectorCollection, _ session: any SQLSession
    ) throws(MemoryError) -> [Int64: Int64] {
        var versions: [Int64: Int64] = [:]
        let rows = try session.query(
            "SELECT id, version FROM vector_points WHERE collection = $1 AND id #anyInt($2)",
            [.text(collection.description), .ints(ids)])
        for row in rows { versions[try row.int(0)] = try row.int(1) }
        return versions
    }

    /// The words of all points as one JSON text of `[client, term, id, weight]`: a statement for each word took longer than
    /// everything else of a write.
    private static func terms(_ points: some Sequence<VectorPoint>) -> String {
        var writer = JSONWriter()
        writer.beginArray()
        for point in points {
            for (term, weight) in zip(point.sparse.indices, point.sparse.values) {
                writer.beginArray()
                writer.int(point.subject.clientID)
                writer.int(term)
                writer.int(point.subject.id)
                writer.double(Double(weight))
                writer.endArray()
            }
        }
        writer.endArray()
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    func delete(_ ids: [Int64], in collection: VectorCollection, deadline: Deadline) async throws(MemoryError) {
        let clients = try await database.write(deadline: deadline, durable: ownsDatabase) {
            session throws(MemoryError) in
            try Self.remove(ids, collection, session)
        }
        let changes = ids.map { VectorBlocks.Change(id: $0, dense: nil) }
        blocks.withLock { blocks in
            for client in clients { blocks.apply(changes, to: Place(clientID: client, collection: collection)) }
        }
    }

    /// Removes points and answers whose they were.
    @discardableResult
    private static func remove(
        _ ids: [Int64], _ collection: VectorCollection, _ session: any SQLSession
    ) throws(MemoryError) -> Set<Int> {
        let values: [SQLValue] = [.text(collection.description), .ints(ids)]
        let gone = try session.query(
            "DELETE FROM vector_points WHERE collection = $1 AND id #anyInt($2) RETURNING client_id", values)
        if !gone.isEmpty {
            try session.execute("DELETE FROM vector_terms WHERE collection = $1 AND id #anyInt($2)", values)
        }
        var clients: Set<Int> = []
        for row in gone { clients.insert(Int(clamping: try row.int(0))) }
        return clients
    }

    private static func payload(_ point: VectorPoint) -> JSONObject {
        switch point.subject {
        case .chunk(let chunk):
            return [
                "doc_id": .string(chunk.documentID), "moment": .int(chunk.createdAt.microseconds),
                "model": .string(point.model),
            ]
        case .record(let record):
            var payload: JSONObject = [
                "type": .string(record.type), "scope": .string(record.scope.rawValue),
                "moment": .int(record.moment.microseconds), "model": .string(point.model),
            ]
            payload["session_id"] = record.sessionID.map(JSON.string)
            payload["session"] = record.sessionKey.map(JSON.string)
            payload["speaker"] = record.speaker.map(JSON.string)
            if !record.tags.isEmpty { payload["tags"] = .array(record.tags.map(JSON.string)) }
            let terms = record.metadata.members.map(MetadataTerm.of)
            if !terms.isEmpty { payload["metadata_terms"] = .array(terms.map(JSON.string)) }
            return payload
        }
    }

    // MARK: Searching

    func vectors(
        of ids: [Int64], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [Int64: [Float]] {
        try await database.read(deadline: deadline) { session throws(MemoryError) in
            let rows = try session.query(
                "SELECT id, dense FROM vector_points WHERE collection = $1 AND id #anyInt($2)",
                [.text(collection.description), .ints(ids)])
            var vectors: [Int64: [Float]] = [:]
            for row in rows { vectors[try row.int(0)] = CompactVectors.decode(try row.bytes(1)) }
            return vectors
        }
    }

    func search(
        _ queries: [VectorQuery], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [VectorAnswer] {
        let places = Set(
            queries.filter { $0.dense != nil }.map { Place(clientID: $0.clientID, collection: collection) })
        // Before the file is read, so that nothing is missed that is written from then on.
        let readings = blocks.withLock { blocks in
            var readings: [Place: Int] = [:]
            for place in places { readings[place] = blocks.beginReading(place) }
            return readings
        }
        let read = Shelf()
        defer {
            let found = read.blocks.withLock { $0 }
            blocks.withLock { blocks in
                for (place, number) in readings { blocks.endReading(number, found[place]) }
            }
        }
        return try await database.read(deadline: deadline) { [self] session throws(MemoryError) in
            var answers: [VectorAnswer] = []
            for query in queries {
                try check(deadline)
                answers.append(try search(query, collection, session, read, deadline))
            }
            return answers
        }
    }

    private func check(_ deadline: Deadline) throws(MemoryError) {
        guard !deadline.hasPassed else { throw .timeout(name, "searching") }
    }

    /// The blocks that a search has read from the file, whole.
    private final class Shelf: Sendable {
        let blocks = Mutex<[Place: CompactVectors]>([:])
    }

    private func search(
        _ query: VectorQuery, _ collection: VectorCollection, _ session: any SQLSession, _ shelf: Shelf,
        _ deadline: Deadline
    ) throws(MemoryError) -> VectorAnswer {
        let place = Place(clientID: query.clientID, collection: collection)
        let allowed = try allowed(query, place, session)
        let isAllowed = { (id: Int64) in allowed?.contains(id) ?? true }
        let dense = try query.dense.map { vector throws(MemoryError) in
            try nearest(to: vector, place, limit: query.limit, isAllowed, session, shelf, deadline)
        }
        let sparse = try query.sparse.map { sparse throws(MemoryError) in
            try words(sparse, place, limit: query.limit, isAllowed, session, deadline)
        }
        return try answer(dense ?? [], sparse ?? [], place, session)
    }

    /// How many vectors are read from the file at once.
    private static let pageCount = 2000

    /// Compares all of the client's vectors: from the cache, else page by page from the file, on the way into the cache as
    /// far as there is room. Memory stays bounded, whatever there is in the file.
    private func nearest(
        to vector: [Float], _ place: Place, limit: Int, _ isAllowed: (Int64) -> Bool, _ session: any SQLSession,
        _ shelf: Shelf, _ deadline: Deadline
    ) throws(MemoryError) -> [(id: Int64, score: Double)] {
        let held = blocks.withLock { $0.block(of: place) }
        if let known = held ?? shelf.blocks.withLock({ $0[place] }) {
            return known.nearest(to: vector, limit: limit, isAllowed: isAllowed)
        }
        var best = BestScores(limit: limit)
        var block = CompactVectors()
        var isWhole = true
        var last = Int64.min
        while true {
            try check(deadline)
            let rows = try session.query(
                """
                SELECT id, dense FROM vector_points WHERE client_id = $1 AND collection = $2 AND id > $3
                ORDER BY id LIMIT $4
                """,
                [
                    .int(Int64(place.clientID)), .text(place.collection.description), .int(last),
                    .int(Int64(Self.pageCount)),
                ])
            var page = CompactVectors()
            for row in rows {
                last = try row.int(0)
                let bytes = try row.bytes(1)
                page.set(last, bytes)
                if isWhole { block.set(last, bytes) }
            }
            for (id, score) in page.nearest(to: vector, limit: limit, isAllowed: isAllowed) { best.offer(id, score) }
            if isWhole, block.bytes > maxCacheBytes { (isWhole, block) = (false, CompactVectors()) }
            guard rows.count == Self.pageCount else { break }
        }
        if isWhole { shelf.blocks.withLock { $0[place] = block } }
        return best.sorted
    }

    /// Sums of `idf · weight` over the question's terms, as Qdrant computes them:
    /// `idf = ln((N - n + 0.5) / (n + 0.5) + 1)` for a term that n of the client's N points have.
    private func words(
        _ query: SparseVector, _ place: Place, limit: Int, _ isAllowed: (Int64) -> Bool, _ session: any SQLSession,
        _ deadline: Deadline
    ) throws(MemoryError) -> [(id: Int64, score: Double)] {
        let values: [SQLValue] = [.int(Int64(place.clientID)), .text(place.collection.description)]
        let total = try session.query(
            "SELECT count(*) FROM vector_points WHERE client_id = $1 AND collection = $2", values)
        let count = Double(try total.first?.int(0) ?? 0)
        var scores: [Int64: Double] = [:]
        for (term, weight) in zip(query.indices, query.values) {
            try check(deadline)
            let postings = try session.query(
                "SELECT id, weight FROM vector_terms WHERE client_id = $1 AND collection = $2 AND term = $3",
                values + [.int(Int64(term))])
            let found = Double(postings.count)
            let idf = Logarithm.natural((count - found + 0.5) / (found + 0.5) + 1)
            for posting in postings {
                scores[try posting.int(0), default: 0] += try posting.double(1) * Double(weight) * idf
            }
        }
        var best = BestScores(limit: limit)
        for (id, score) in scores where isAllowed(id) { best.offer(id, score) }
        return best.sorted
    }

    /// The ids that pass the filter and have not expired; nil when all do.
    private func allowed(
        _ query: VectorQuery, _ place: Place, _ session: any SQLSession
    ) throws(MemoryError) -> Set<Int64>? {
        let values: [SQLValue] = [
            .int(Int64(place.clientID)), .text(place.collection.description), .int(query.now.microseconds),
        ]
        if query.filter.isEmpty, query.documentID == nil {
            let expired = try session.query(
                """
                SELECT EXISTS (SELECT 1 FROM vector_points
                WHERE client_id = $1 AND collection = $2 AND expires_at <= $3)
                """, values)
            guard let row = expired.first, try row.bool(0) else { return nil }
        }
        let filter = query.filter
        let terms = filter.metadata.members.map(MetadataTerm.of)
        let rows = try session.query(
            """
            SELECT id FROM vector_points
            WHERE client_id = $1 AND collection = $2 AND (expires_at IS NULL OR expires_at > $3)
                AND ($4 IS NULL OR payload ->> 'type' = $4) AND ($5 IS NULL OR payload ->> 'session_id' = $5)
                AND ($6 = '[]' OR payload ->> 'scope' IN (SELECT value FROM json_each($6)))
                AND payload ->> 'moment' >= $7 AND payload ->> 'moment' <= $8
                AND NOT EXISTS (SELECT value FROM json_each($9)
                    EXCEPT SELECT value FROM json_each(payload, '$.tags'))
                AND NOT EXISTS (SELECT value FROM json_each($10)
                    EXCEPT SELECT value FROM json_each(payload, '$.metadata_terms'))
                AND ($11 IS NULL OR payload ->> 'doc_id' = $11)
            """,
            values + [
                filter.type.map(SQLValue.text) ?? .null, filter.sessionID.map(SQLValue.text) ?? .null,
                .texts(filter.scopes.map(\.rawValue)), .int(filter.since?.microseconds ?? .min),
                .int(filter.until?.microseconds ?? .max), .texts(filter.tags), .texts(terms),
                .optional(query.documentID),
            ])
        var allowed = Set<Int64>(minimumCapacity: rows.count)
        for row in rows { allowed.insert(try row.int(0)) }
        return allowed
    }

    /// Adds what the ranking needs to what was found.
    private func answer(
        _ dense: [(id: Int64, score: Double)], _ sparse: [(id: Int64, score: Double)], _ place: Place,
        _ session: any SQLSession
    ) throws(MemoryError) -> VectorAnswer {
        let rows = try session.query(
            """
            SELECT id, payload ->> 'session', payload ->> 'speaker', payload ->> 'moment' FROM vector_points
            WHERE collection = $1 AND id IN (SELECT value FROM json_each($2)) AND client_id = $3
            """,
            [
                .text(place.collection.description), .ints(Array(Set((dense + sparse).map(\.id)))),
                .int(Int64(place.clientID)),
            ])
        var found: [Int64: SQLRow] = [:]
        for row in rows { found[try row.int(0)] = row }
        func candidates(_ list: [(id: Int64, score: Double)]) -> [VectorCandidate] {
            list.compactMap { id, score in
                guard let row = found[id] else { return nil }
                return VectorCandidate(
                    id: id, score: score, session: row.optionalText(1), speaker: row.optionalText(2),
                    moment: (try? row.int(3)).map { Timestamp(microseconds: $0) })
            }
        }
        return VectorAnswer(dense: candidates(dense), sparse: candidates(sparse))
    }

    func count(in collection: VectorCollection, deadline: Deadline) async throws(MemoryError) -> Int {
        try await database.read(deadline: deadline) { session throws(MemoryError) in
            let rows = try session.query(
                "SELECT count(*) FROM vector_points WHERE collection = $1", [.text(collection.description)])
            return Int(clamping: try rows.first?.int(0) ?? 0)
        }
    }

    func otherModel(
        than model: String, in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> String? {
        try await database.read(deadline: deadline) { session throws(MemoryError) in
            try session.query(
                """
                SELECT payload ->> 'model' FROM vector_points
                WHERE collection = $1 AND payload ->> 'model' <> $2 LIMIT 1
                """, [.text(collection.description), .text(model)]
            ).first?.optionalText(0)
        }
    }

    func versions(
        of ids: [Int64], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [Int64: Int64] {
        try await database.read(deadline: deadline) { session throws(MemoryError) in
            try Self.versions(of: ids, collection, session)
        }
    }

    func ownIDs(
        in collection: VectorCollection, after id: Int64?, limit: Int, deadline: Deadline
    ) async throws(MemoryError) -> [Int64] {
        try await database.read(deadline: deadline) { session throws(MemoryError) in
            try session.query(
                "SELECT id FROM vector_points WHERE collection = $1 AND id > $2 ORDER BY id LIMIT $3",
                [.text(collection.description), .int(id ?? .min), .int(Int64(limit))]
            ).map { row throws(MemoryError) in try row.int(0) }
        }
    }

    // MARK: The file

    /// The tables come with the file's migrations.
    func setUp(deadline: Deadline) async throws(MemoryError) {
        _ = try await Migrator(database: database).run(deadline: deadline)
    }

    /// Whether the file can be read; a new one has no tables before ``setUp(deadline:)``.
    func ping(deadline: Deadline) async throws(MemoryError) {
        _ = try await database.read(deadline: deadline) { session throws(MemoryError) in
            try session.query("SELECT 1 FROM sqlite_master LIMIT 1", [])
        }
    }

    func close() async {
        if ownsDatabase { await database.close() }
    }
}
