import Logging
import Metrics

extension Memory {
    /// Recalls the memories of a client that answer a question best.
    public func recall(_ query: String, client: Int, limit: Int = 5) async throws(MemoryError) -> [RecallHit] {
        try await recall(RecallRequest(query: query, clientID: client, limit: limit)).hits
    }

    /// Recalls the memories of a client that answer a question best.
    ///
    /// The cache answers first, where it has the very same request and nothing was written since. Then vectors and words
    /// are searched, ranked as one, and every hit is read from the primary store by its id and client. When vectors cannot
    /// be searched, the primary store's full text answers, and the answer is marked as degraded.
    ///
    /// - Throws: ``MemoryError``: `invalid_request`, or `unavailable` when the primary store is away and the cache cannot
    ///   stand in.
    public func recall(_ request: RecallRequest) async throws(MemoryError) -> RecallAnswer {
        try request.validate()
        let start = surroundings.instant
        let deadline = Deadline.after(configuration.budgets.recall)
        func answer(_ hits: EncodedHits, isCached: Bool, isDegraded: Bool) -> RecallAnswer {
            RecallAnswer(
                hits, clientID: request.clientID, isCached: isCached, isDegraded: isDegraded,
                duration: surroundings.instant - start)
        }
        switch await cache.lookUp(request, deadline: deadline) {
        case .hit(let hits):
            return answer(hits, isCached: true, isDegraded: false)
        case .miss(let ticket):
            // It names the client's generation, so nobody joins a search that began before their own write.
            let flight = cache.flight(request, ticket)
            let shared = try await recalls.run(flight, deadline: deadline) { () throws(MemoryError) in
                try await self.search(request, ticket, deadline)
            }
            return answer(shared.0, isCached: false, isDegraded: shared.isDegraded)
        }
    }

    private func search(
        _ request: RecallRequest, _ ticket: MemoryCache.Ticket?, _ deadline: Deadline
    ) async throws(MemoryError) -> (EncodedHits, isDegraded: Bool) {
        let question: Question
        let answers: [VectorAnswer]
        do throws(MemoryError) {
            question = try await prepare(request, deadline)
        } catch {
            return try await fallBack(because: error) { () throws(MemoryError) in
                try await self.searchText(request, deadline)
            }
        }
        // The hedge: once vectors are slow, full text is searched beside them, to be there when they turn out too slow. A
        // task, because a recall that vectors did answer must not wait for it; its deadline ends it.
        let start = surroundings.instant
        let hedge = Task { await textWhenSlow(request, deadline) }
        defer { hedge.cancel() }
        do throws(MemoryError) {
            answers = try await searchVectors(question, deadline)
        } catch {
            let isHedged = surroundings.instant - start >= configuration.budgets.hedge
            return try await fallBack(because: error) { () throws(MemoryError) in
                try await isHedged ? hedge.value.get() : self.searchText(request, deadline)
            }
        }
        let (hits, ghosts) = try await hydrate(answers, request, deadline)
        if hits.isEmpty, ghosts > 0 {
            // An old snapshot, or another's collection: whatever the vectors stand for, it is not this client's records.
            return try await fallBack(because: .badReply(vectors.name, "\(ghosts) ghosts")) { () throws(MemoryError) in
                try await self.searchText(request, deadline)
            }
        }
        let encoded = EncodedHits(hits)
        // What a ghost kept out may be found in a moment, when the vectors are put right.
        if let ticket, ghosts == 0 {
            await cache.keep(
                encoded, ticket, of: request.clientID, until: hits.compactMap(\.record.expiresAt).min(),
                question.vector)
        }
        return (encoded, false)
    }

    /// The answer without vectors. It is never kept: the next one may be whole.
    private func fallBack(
        because error: MemoryError, _ text: () async throws(MemoryError) -> [RecallHit]
    ) async throws(MemoryError) -> (EncodedHits, isDegraded: Bool) {
        logger.debug("Recall falls back to full text", metadata: [LogKey.error: "\(error.debugDescription)"])
        return (EncodedHits(try await text()), true)
    }

    // MARK: Vectors

    /// How many candidates of each kind are ranked. Measured on LoCoMo: 200 find hardly more than 100.
    private static let candidates = 100

    /// What is searched, and where.
    private struct Question {
        let query: VectorQuery
        let vector: QueryVector?
        let sources: [RecallRequest.Source]
    }

    private func prepare(_ request: RecallRequest, _ deadline: Deadline) async throws(MemoryError) -> Question {
        var query = VectorQuery(
            clientID: request.clientID, filter: request.filter, limit: Self.candidates, now: surroundings.now)
        // While the question is embedded, the primary store says where there is anything to find.
        async let existing = sources(request, deadline)
        var vector: QueryVector?
        if request.mode != .keyword {
            vector = try await embeddings.vector(
                ofQuery: request.query, clientID: request.clientID,
                deadline: deadline.capped(at: configuration.budgets.embedQuery))
            query.dense = vector?.values
        }
        if request.mode != .dense { query.sparse = .query(request.query) }
        return Question(query: query, vector: vector, sources: await existing)
    }

    private func searchVectors(
        _ question: Question, _ deadline: Deadline
    ) async throws(MemoryError) -> [VectorAnswer] {
        let limit = deadline.capped(at: configuration.budgets.searchVectors)
        let results = await concurrently(question.sources) { source in
            await self.searched(question.query, source, limit)
        }
        return try results.map { result throws(MemoryError) in try result.get() }
    }

    /// The sources that are asked for and hold anything of the client; all that are asked for when nobody can tell.
    private func sources(_ request: RecallRequest, _ deadline: Deadline) async -> [RecallRequest.Source] {
        guard request.sources != [.events] else { return request.sources }
        do throws(MemoryError) {
            let limit = deadline.capped(at: configuration.budgets.readRecords)
            return Array(try await kinds.submit(request.clientID, deadline: limit).intersection(request.sources))
        } catch {
            return Array(Set(request.sources))
        }
    }

    private func searched(
        _ query: VectorQuery, _ source: RecallRequest.Source, _ deadline: Deadline
    ) async -> Result<VectorAnswer, MemoryError> {
        do throws(MemoryError) {
            return .success(try await search(query, source, deadline))
        } catch {
            return .failure(error)
        }
    }

    func search(
        _ query: VectorQuery, _ source: RecallRequest.Source, _ deadline: Deadline
    ) async throws(MemoryError) -> VectorAnswer {
        guard let batches = searches[source] else { return VectorAnswer() }
        return try await batches.submit(query, deadline: deadline)
    }

    // MARK: Records

    /// Ranks the candidates and reads the best from the primary store, by id and client, until there are enough. What is
    /// not there, is another client's, has expired or does not pass the filter is no hit, whatever the vector store says.
    ///
    /// - Returns: the hits, and how many candidates stood for no record of the client.
    private func hydrate(
        _ answers: [VectorAnswer], _ request: RecallRequest, _ deadline: Deadline
    ) async throws(MemoryError) -> (hits: [RecallHit], ghosts: Int) {
        var all = VectorAnswer()
        for answer in answers {
            all.dense += answer.dense
            all.sparse += answer.sparse
        }
        var ranked = fusion.rank(all, hints: QueryHints(request.query))[...]
        if let minScore = request.minScore { ranked = ranked.prefix { $0.score >= minScore } }
        let now = surroundings.now
        var hits: [RecallHit] = []
        var ghosts = 0
        while hits.count < request.limit, !ranked.isEmpty {
            let chunk = ranked.prefix(request.limit - hits.count + 4)
            ranked = ranked.dropFirst(chunk.count)
            let records = try await read(chunk.map { RecordKey(id: $0.id, clientID: request.clientID) }, deadline)
            guard !deadline.hasPassed else { throw MemoryError(.timeout, "The deadline passed while ranking") }
            ghosts += chunk.count { records[$0.id] == nil }
            for entry in chunk where hits.count < request.limit {
                guard let record = records[entry.id], !record.hasExpired(at: now), request.filter.matches(record)
                else { continue }
                hits.append(
                    RecallHit(record: record, similarity: entry.similarity, score: entry.score))
            }
        }
        if ghosts > 0 { self.ghosts.increment(by: ghosts) }
        return (hits, ghosts)
    }

    /// Records by id. When the primary store is away, the cache stands in, if it has every one of them.
    func read(
        _ keys: [RecordKey], _ deadline: Deadline
    ) async throws(MemoryError) -> [Int64: MemoryRecord] {
        let valid = keys.filter { (1...Int64(Int32.max)).contains($0.id) }
        let limit = deadline.capped(at: configuration.budgets.readRecords)
        var records: [Int64: MemoryRecord] = [:]
        do throws(MemoryError) {
            for record in try await reads.submit(valid, deadline: limit) { records[record.id] = record }
        } catch {
            for record in await cache.records(valid, deadline: deadline) { records[record.id] = record }
            if records.count == valid.count { return records }
            // The store never had the call, and there is time left.
            guard error.isOwnDelay, !deadline.hasPassed else { throw error }
            for record in try await reads.submit(valid, deadline: deadline) { records[record.id] = record }
        }
        return records
    }

    // MARK: Full text

    /// Full text, once searching vectors has taken its time; nothing when that is done before, which cancels this.
    private func textWhenSlow(
        _ request: RecallRequest, _ deadline: Deadline
    ) async -> Result<[RecallHit], MemoryError> {
        do {
            try await surroundings.sleep(for: configuration.budgets.hedge)
        } catch {
            return .success([])
        }
        do throws(MemoryError) {
            return .success(try await searchText(request, deadline))
        } catch {
            return .failure(error)
        }
    }

    private func searchText(_ request: RecallRequest, _ deadline: Deadline) async throws(MemoryError) -> [RecallHit] {
        let terms = Tokenizer.searchWords(request.query)
        guard !terms.isEmpty else { return [] }
        let found = try await database.read(deadline: deadline.capped(at: configuration.budgets.searchText)) {
            session throws(MemoryError) in
            try EventRepository(session: session).search(
                terms, clientID: request.clientID, filter: request.filter, limit: request.limit * 4)
        }
        let now = surroundings.now
        let hits = found.compactMap { record, rank -> RecallHit? in
            guard !record.hasExpired(at: now), request.filter.matches(record), rank >= request.minScore ?? 0,
                request.sources.contains(record.kind.source)
            else { return nil }
            return RecallHit(record: record, similarity: nil, score: rank)
        }
        return Array(hits.prefix(request.limit))
    }
}
