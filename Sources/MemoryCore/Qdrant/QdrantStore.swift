import Synchronization

/// Vectors in Qdrant. Every search is filtered by one client; there is no way to ask without.
final class QdrantStore: VectorStore {
    let name = MemoryError.Store.qdrant
    let parallelWrites = 4

    private let client: QdrantClient
    private let setup: QdrantSetup
    private let prefix: String
    /// Whether the server takes conditional writes, as far as it has said; asked again after any write that failed, for then
    /// it may be another.
    private let isConditional = Mutex<Bool?>(nil)
    /// Whether each collection has the sparse vector, learnt at its first use.
    private let hasSparse = Mutex<[VectorCollection: Bool]>([:])
    private let setUps = SingleFlight<String, Bool>(store: .qdrant)

    init(_ configuration: QdrantConfiguration, outage: Outage = .silent) throws(MemoryError) {
        client = try QdrantClient(configuration, outage: outage)
        prefix = configuration.collectionPrefix
        setup = QdrantSetup(
            client: client, definitions: try CollectionDefinition.bundled(), prefix: configuration.collectionPrefix)
    }

    // MARK: Writing

    func upsert(
        _ points: [VectorPoint], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) {
        guard !points.isEmpty else { return }
        let newest = points.newest()
        do throws(MemoryError) {
            try await creatingIfMissing(deadline) { () throws(MemoryError) in
                let withSparse = try await self.hasSparse(collection, deadline)
                let body = QdrantRequests.upsert(
                    newest, withSparse: withSparse, isConditional: await self.isConditional(deadline))
                try await self.client.update(.put, self.path(collection, "points"), body: body, deadline: deadline)
            }
        } catch {
            isConditional.withLock { $0 = nil }
            throw error
        }
    }

    var keepsNewest: Bool { isConditional.withLock { $0 ?? false } }

    /// Qdrant takes `update_filter` from 1.16 on; an older one would overlook it.
    private func isConditional(_ deadline: Deadline) async -> Bool {
        if let known = isConditional.withLock({ $0 }) { return known }
        guard let version = try? await client.version(deadline: deadline) else { return false }
        let isConditional = !version.lexicographicallyPrecedes([1, 16])
        self.isConditional.withLock { $0 = isConditional }
        return isConditional
    }

    func delete(_ ids: [Int64], in collection: VectorCollection, deadline: Deadline) async throws(MemoryError) {
        guard !ids.isEmpty else { return }
        let body: JSON = ["points": .array(ids.map(JSON.int))]
        try await creatingIfMissing(deadline) { () throws(MemoryError) in
            try await self.client.update(
                .post, self.path(collection, "points/delete"), body: body.encoded, deadline: deadline)
        }
    }

    // MARK: Searching

    func search(
        _ queries: [VectorQuery], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [VectorAnswer] {
        let withSparse = try await hasSparse(collection, deadline)
        let (body, kinds) = QdrantRequests.search(queries, withSparse: withSparse)
        guard !kinds.isEmpty else { return queries.map { _ in VectorAnswer() } }
        let reply = try await client.reply(
            .post, path(collection, "points/query/batch"), body: body, deadline: deadline)
        let lists = try QdrantRequests.candidates(reply)
        guard lists.count == kinds.count else {
            throw .badReply(.qdrant, "\(kinds.count) searches, and another number of answers")
        }
        var answers = queries.map { _ in VectorAnswer() }
        for (candidates, kind) in zip(lists, kinds) {
            switch kind {
            case .dense(let index): answers[index].dense = candidates
            case .sparse(let index): answers[index].sparse = candidates
            }
        }
        return answers
    }

    func vectors(
        of ids: [Int64], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [Int64: [Float]] {
        let body: JSON = ["ids": .array(ids.map(JSON.int)), "with_payload": false, "with_vector": true]
        let found = try await client.send(
            .post, path(collection, "points"), body: body.encoded, deadline: deadline)
        var vectors: [Int64: [Float]] = [:]
        for point in found.array ?? [] {
            // Beside a named vector the unnamed one has the empty name; alone it is the list itself.
            let numbers = (point["vector"]?[""] ?? point["vector"])?.array ?? []
            let vector = numbers.compactMap { $0.double.map { Float($0) } }
            if let id = point["id"]?.int, vector.count == Limits.dimensions { vectors[id] = vector }
        }
        return vectors
    }

    // MARK: Comparing

    func count(in collection: VectorCollection, deadline: Deadline) async throws(MemoryError) -> Int {
        // Whatever a gateway writes names its model; others' points would make the numbers differ for ever.
        let body: JSON = ["exact": true, "filter": ["must_not": [["is_empty": ["key": "model"]]]]]
        let result = try await client.send(
            .post, path(collection, "points/count"), body: body.encoded, deadline: deadline)
        guard let count = result["count"]?.int else { throw .badReply(.qdrant, "a count without a number") }
        return Int(clamping: count)
    }

    func otherModel(
        than model: String, in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> String? {
        let others: JSON = [
            "must_not": [["is_empty": ["key": "model"]], ["key": "model", "match": ["value": .string(model)]]]
        ]
        let body: JSON = ["filter": others, "limit": 1, "with_payload": ["model"], "with_vector": false]
        let found = try await client.send(
            .post, path(collection, "points/scroll"), body: body.encoded, deadline: deadline)
        return found["points"]?.array?.first?["payload"]?["model"]?.string
    }

    func versions(
        of ids: [Int64], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [Int64: Int64] {
        let body: JSON = ["ids": .array(ids.map(JSON.int)), "with_payload": ["version"], "with_vector": false]
        let found = try await client.send(
            .post, path(collection, "points"), body: body.encoded, deadline: deadline)
        var versions: [Int64: Int64] = [:]
        for point in found.array ?? [] {
            // Gateways before 0.2 wrote none: what they wrote counts as the first.
            if let id = point["id"]?.int { versions[id] = point["payload"]?["version"]?.int ?? 1 }
        }
        return versions
    }

    func ownIDs(
        in collection: VectorCollection, after id: Int64?, limit: Int, deadline: Deadline
    ) async throws(MemoryError) -> [Int64] {
        // Whatever a gateway writes names its model. A scroll goes by id, integers before UUIDs.
        var body: JSONObject = [
            "limit": .int(Int64(limit)), "with_payload": ["model"], "with_vector": false,
        ]
        body["offset"] = id.map { .int($0 + 1) }
        let result = try await client.send(
            .post, path(collection, "points/scroll"), body: body.encoded, deadline: deadline)
        guard let points = result["points"]?.array else { throw .badReply(.qdrant, "a scroll without points") }
        let own = points.filter { $0["payload"]?["model"] != nil }.compactMap { $0["id"]?.int }
        // A page that is all others' must not look like the end.
        if own.isEmpty, let next = result["next_page_offset"]?.int, next > id ?? .min {
            return try await ownIDs(in: collection, after: next - 1, limit: limit, deadline: deadline)
        }
        return own
    }

    // MARK: The server

    func setUp(deadline: Deadline) async throws(MemoryError) {
        _ = try await setUps.run("all", deadline: deadline) { () throws(MemoryError) in
            let reports = try await self.setup.run(changes: true, deadline: deadline)
            if let report = reports.first(where: \.isFatal) {
                throw MemoryError(
                    .configuration, "Collection \(report.name) differs: \(report.differences.joined(separator: ", "))",
                    store: .qdrant)
            }
            self.hasSparse.withLock { $0 = [:] }
            self.isConditional.withLock { $0 = nil }
            return true
        }
    }

    func ping(deadline: Deadline) async throws(MemoryError) {
        _ = try await client.send(.get, "/collections", deadline: deadline)
    }

    func close() async { await client.close() }

    /// Runs an update; when its collection turns out to be gone, creates it and runs the update again.
    private func creatingIfMissing(
        _ deadline: Deadline, _ update: () async throws(MemoryError) -> Void
    ) async throws(MemoryError) {
        do {
            try await update()
        } catch {
            guard error.driverCode == QdrantClient.missing else { throw error }
            try await setUp(deadline: deadline)
            try await update()
        }
    }

    private func path(_ collection: VectorCollection, _ rest: String) -> String {
        "/collections/\(prefix)\(collection)/\(rest)"
    }

    private func hasSparse(_ collection: VectorCollection, _ deadline: Deadline) async throws(MemoryError) -> Bool {
        if let known = hasSparse.withLock({ $0[collection] }) { return known }
        guard let found = try await client.collection("\(prefix)\(collection)", deadline: deadline) else {
            throw .unavailable(.qdrant, "no collection \(collection)", driverCode: QdrantClient.missing)
        }
        let has = found["config"]?["params"]?["sparse_vectors"]?[QdrantRequests.sparseName] != nil
        hasSparse.withLock { $0[collection] = has }
        return has
    }
}
