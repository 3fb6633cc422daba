/// The bodies of requests to Qdrant, and the reading of its answers.
enum QdrantRequests {
    static let sparseName = "text"

    /// Which query, and which of its two halves, a search of a batch belongs to.
    enum Kind: Sendable {
        case dense(Int)
        case sparse(Int)
    }

    // MARK: Points

    /// `isConditional`: leaves points alone that show a newer version of their record.
    static func upsert(_ points: [VectorPoint], withSparse: Bool, isConditional: Bool) -> [UInt8] {
        var writer = JSONWriter(capacity: points.count * 16_384)
        writer.beginObject()
        writer.key("points")
        writer.beginArray()
        for point in points { write(point, withSparse: withSparse, to: &writer) }
        writer.endArray()
        if isConditional {
            writer.key("update_filter")
            writer.json(notNewer(than: points))
        }
        writer.endObject()
        return writer.bytes
    }

    /// A filter that no point passes which is newer than the one that is to take its place. A point without a version is
    /// older than any.
    private static func notNewer(than points: [VectorPoint]) -> JSON {
        let byVersion = Dictionary(grouping: points, by: \.version).sorted { $0.key < $1.key }
        let newer = byVersion.map { version, points -> JSON in
            let isNewer: JSON = ["key": "version", "range": ["gt": .int(version)]]
            guard byVersion.count > 1 else { return isNewer }
            return ["must": [["has_id": .array(points.map { .int($0.subject.id) })], isNewer]]
        }
        return ["must_not": .array(newer)]
    }

    private static func write(_ point: VectorPoint, withSparse: Bool, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("id")
        writer.int(point.subject.id)
        writer.key("vector")
        writer.beginObject()
        // The empty name is the unnamed vector, in the form that can stand beside a named one.
        writer.key("")
        writer.vector(point.dense)
        if withSparse, !point.sparse.isEmpty {
            writer.key(sparseName)
            write(point.sparse, to: &writer)
        }
        writer.endObject()
        writer.key("payload")
        writer.object(payload(point))
        writer.endObject()
    }

    private static func write(_ sparse: SparseVector, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("indices")
        writer.beginArray()
        for index in sparse.indices { writer.int(index) }
        writer.endArray()
        writer.key("values")
        writer.beginArray()
        for value in sparse.values { writer.raw(value.description) }
        writer.endArray()
        writer.endObject()
    }

    /// What searches filter and rank by. The caller's metadata is here only as hashed terms, so that none of its keys can
    /// take the place of one of ours.
    private static func payload(_ point: VectorPoint) -> JSONObject {
        var payload: JSONObject = [
            "client_id": .int(Int64(point.subject.clientID)), "model": .string(point.model),
            "version": .int(point.version),
        ]
        switch point.subject {
        case .record(let record): add(record, to: &payload)
        case .chunk(let chunk):
            payload["doc_id"] = .string(chunk.documentID)
            payload["chunk_index"] = .int(Int64(chunk.index))
            payload["created_at"] = .string(chunk.createdAt.description)
        }
        return payload
    }

    private static func add(_ record: MemoryRecord, to payload: inout JSONObject) {
        let created = JSON.string(record.createdAt.description)
        switch record.kind {
        case .memory:
            payload["event_id"] = .int(record.id)
            payload["created_at"] = created
        case .agentMemory(let id):
            payload["memory_id"] = .string(id)
            payload["extracted_at"] = created
        case .reflection(let reflection):
            payload["reflection_id"] = .int(record.id)
            payload["reflection_date"] = .string(reflection.date + "T00:00:00Z")
        }
        payload["event_type"] = .string(EventType.of(record.kind, type: record.type))
        payload["memory_type"] = .string(record.type)
        payload["occurred_at"] = .string(record.moment.description)
        payload["memory_scope"] = .string(record.scope.rawValue)
        payload["session_id"] = record.sessionID.map(JSON.string)
        payload["session"] = record.sessionKey.map(JSON.string)
        payload["speaker"] = record.speaker.map(JSON.string)
        payload["expires_at"] = record.expiresAt.map { .string($0.description) }
        if !record.tags.isEmpty { payload["tags"] = .array(record.tags.map(JSON.string)) }
        let terms = record.metadata.members.map(MetadataTerm.of)
        if !terms.isEmpty { payload["metadata_terms"] = .array(terms.map(JSON.string)) }
    }

    // MARK: Searches

    static func search(_ queries: [VectorQuery], withSparse: Bool) -> (body: [UInt8], kinds: [Kind]) {
        var writer = JSONWriter(capacity: queries.count * 16_384)
        var kinds: [Kind] = []
        writer.beginObject()
        writer.key("searches")
        writer.beginArray()
        for (index, query) in queries.enumerated() {
            let filter = filter(query)
            if let dense = query.dense {
                writer.beginObject()
                writer.key("query")
                writer.vector(dense)
                writeCommon(filter, query.limit, to: &writer)
                kinds.append(.dense(index))
            }
            if withSparse, let sparse = query.sparse, !sparse.isEmpty {
                writer.beginObject()
                writer.key("query")
                write(sparse, to: &writer)
                writer.key("using")
                writer.string(sparseName)
                // A client's words are weighed among that client's memories: better, and it tells nothing of the others.
                writer.key("params")
                writer.json(["idf": ["corpus": ["must": [clientCondition(query.clientID)]]]])
                writeCommon(filter, query.limit, to: &writer)
                kinds.append(.sparse(index))
            }
        }
        writer.endArray()
        writer.endObject()
        return (writer.bytes, kinds)
    }

    private static func writeCommon(_ filter: JSON, _ limit: Int, to writer: inout JSONWriter) {
        writer.key("filter")
        writer.json(filter)
        writer.key("limit")
        writer.int(limit)
        writer.key("with_payload")
        writer.strings(["session", "speaker", "occurred_at"])
        writer.endObject()
    }

    private static func clientCondition(_ clientID: Int) -> JSON {
        condition("client_id", .int(Int64(clientID)))
    }

    private static func condition(_ key: String, _ value: JSON) -> JSON {
        ["key": .string(key), "match": ["value": value]]
    }

    private static func filter(_ query: VectorQuery) -> JSON {
        let filter = query.filter
        var must = [clientCondition(query.clientID)]
        if let type = filter.type {
            let types = [EventType.memoryPrefix + type, EventType.agentMemoryPrefix + type, type]
            must.append(["key": "event_type", "match": ["any": .array(types.map(JSON.string))]])
        }
        if let document = query.documentID { must.append(condition("doc_id", .string(document))) }
        if !filter.scopes.isEmpty {
            let any = JSON.array(filter.scopes.map { .string($0.rawValue) })
            must.append(["key": "memory_scope", "match": ["any": any]])
        }
        if let session = filter.sessionID { must.append(condition("session_id", .string(session))) }
        must += filter.tags.map { condition("tags", .string($0)) }
        must += filter.metadata.members.map { condition("metadata_terms", .string(MetadataTerm.of($0))) }
        var range = JSONObject()
        range["gte"] = filter.since.map { .string($0.description) }
        range["lte"] = filter.until.map { .string($0.description) }
        if !range.isEmpty { must.append(["key": "occurred_at", "range": .object(range)]) }
        let expired: JSON = ["key": "expires_at", "range": ["lte": .string(query.now.description)]]
        return ["must": .array(must), "must_not": [expired]]
    }

    /// The keys that are read, as bytes: slices of different lengths are told apart at once.
    private enum Key {
        static let result = bytes("result")
        static let points = bytes("points")
        static let id = bytes("id")
        static let score = bytes("score")
        static let payload = bytes("payload")
        static let session = bytes("session")
        static let speaker = bytes("speaker")
        static let moment = bytes("occurred_at")

        private static func bytes(_ text: String) -> ArraySlice<UInt8> { Array(text.utf8)[...] }
    }

    /// The points of each answer of a batch. What is malformed makes the whole answer so: a server that errs there may err
    /// elsewhere.
    static func candidates(_ reply: [UInt8]) throws(MemoryError) -> [[VectorCandidate]] {
        var lists: [[VectorCandidate]] = []
        do throws(JSON.ParseError) {
            var scanner = JSONScanner(reply)
            try scanner.members { scanner, key throws(JSON.ParseError) in
                guard key == Key.result else { return }
                try scanner.elements { scanner throws(JSON.ParseError) in lists.append(try points(&scanner)) }
            }
        } catch {
            throw .badReply(.qdrant, "\(error.reason) at byte \(error.offset)")
        }
        return lists
    }

    private static func points(_ scanner: inout JSONScanner) throws(JSON.ParseError) -> [VectorCandidate] {
        var candidates: [VectorCandidate]?
        try scanner.members { scanner, key throws(JSON.ParseError) in
            guard key == Key.points else { return }
            var found: [VectorCandidate] = []
            try scanner.elements { scanner throws(JSON.ParseError) in found.append(try candidate(&scanner)) }
            candidates = found
        }
        guard let candidates else {
            throw JSON.ParseError(reason: "an answer without points", offset: scanner.position)
        }
        return candidates
    }

    private static func candidate(_ scanner: inout JSONScanner) throws(JSON.ParseError) -> VectorCandidate {
        var id: Int64?
        var score: Double?
        var session, speaker, moment: String?
        try scanner.members { scanner, key throws(JSON.ParseError) in
            if key == Key.id {
                id = try scanner.integer()
            } else if key == Key.score {
                score = try scanner.number()
            } else if key == Key.payload {
                try scanner.members { scanner, key throws(JSON.ParseError) in
                    if key == Key.session {
                        session = try scanner.string()
                    } else if key == Key.speaker {
                        speaker = try scanner.string()
                    } else if key == Key.moment {
                        moment = try scanner.string()
                    }
                }
            }
        }
        guard let id, let score, score.isFinite else {
            throw JSON.ParseError(reason: "a point without an id of ours or a score", offset: scanner.position)
        }
        return VectorCandidate(
            id: id, score: score, session: session, speaker: speaker, moment: moment.flatMap { Timestamp($0) })
    }
}
