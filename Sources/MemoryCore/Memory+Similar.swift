extension Memory {
    /// The memories nearest to an event's own vector, without itself, of the same client.
    ///
    /// A memory has a vector. Any other event is looked up by the text of its payload.
    ///
    /// `owners`: whose event it must be. `limit`: how many, 1...100.
    ///
    /// - Throws: ``MemoryError`` with `not_found` for an unknown event.
    public func similarEvents(to id: Int64, of owners: Owners, limit: Int = 5) async throws(MemoryError) -> [RecallHit]
    {
        guard Limits.results.contains(limit) else {
            throw .invalid("k must be between 1 and \(Limits.results.upperBound)", field: "k")
        }
        let event = try await event(id, of: owners)
        guard let owner = event.clientID else { return [] }
        let deadline = Deadline.after(configuration.budgets.recall)
        guard let vector = try await vector(of: event, owner, deadline) else { return [] }
        let query = VectorQuery(
            clientID: owner, dense: vector, filter: RecallFilter(), limit: limit + 1, now: surroundings.now)
        let answers = try await concurrently(RecallRequest.Source.allCases) { source in
            await self.nearest(query, source, deadline)
        }.map { result throws(MemoryError) in try result.get() }
        let ranked = answers.flatMap { $0 }.filter { $0.id != id }.sorted { ($0.score, $0.id) > ($1.score, $1.id) }
        let records = try await read(ranked.prefix(limit + 8).map { RecordKey(id: $0.id, clientID: owner) }, deadline)
        let now = surroundings.now
        let hits = ranked.compactMap { candidate -> RecallHit? in
            guard let record = records[candidate.id], !record.hasExpired(at: now) else { return nil }
            let similarity = min(max(candidate.score, 0), 1)
            return RecallHit(record: record, similarity: similarity, score: similarity)
        }
        return Array(hits.prefix(limit))
    }

    private func nearest(
        _ query: VectorQuery, _ source: RecallRequest.Source, _ deadline: Deadline
    ) async -> Result<[VectorCandidate], MemoryError> {
        do throws(MemoryError) {
            let limit = deadline.capped(at: configuration.budgets.searchVectors)
            return .success(try await search(query, source, limit).dense)
        } catch {
            return .failure(error)
        }
    }

    /// The vector as it is stored; made again when it is not there yet.
    private func vector(
        of event: Event, _ owner: Int, _ deadline: Deadline
    ) async throws(MemoryError) -> [Float]? {
        let limit = deadline.capped(at: configuration.budgets.searchVectors)
        if let source = EventType.read(event.type)?.source,
            let known = try await vectors.vectors(of: [event.id], in: source.collection, deadline: limit)[event.id]
        {
            return known
        }
        let text = event.payload["content"]?.string ?? event.payload.texts.joined(separator: " ")
        guard text.contains(where: { !$0.isWhitespace }) else { return nil }
        return try await embeddings.vector(
            ofQuery: String(text.prefix(Limits.queryBytes)), clientID: owner,
            deadline: deadline.capped(at: configuration.budgets.embedQuery)
        ).values
    }
}

extension JSON {
    /// Every string in it, in order.
    fileprivate var texts: [String] {
        switch self {
        case .string(let text): [text]
        case .array(let elements): elements.flatMap(\.texts)
        case .object(let object): object.members.flatMap(\.value.texts)
        default: []
        }
    }
}
