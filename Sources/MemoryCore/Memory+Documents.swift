extension Memory {
    /// How many chunks are indexed before the answer; more are left to the outbox, because a handbook may have thousands.
    private static let chunksIndexedAtOnce = 128

    /// Cuts a document into chunks and stores it, in the place of the one of that id.
    ///
    /// - Throws: ``MemoryError``: `invalid_request` or `too_large`, naming the field; `outcome` says what was stored.
    public func ingest(_ draft: DocumentDraft) async throws(MemoryError) -> DocumentReceipt {
        try draft.validate()
        return try await Lane.background.run { () throws(MemoryError) in try await store(draft) }
    }

    private func store(_ draft: DocumentDraft) async throws(MemoryError) -> DocumentReceipt {
        let deadline = Deadline.after(.seconds(10))
        let chunks = try await Self.chunks(draft.content, deadline)
        let stored = try await DocumentWriter(database: database, surroundings: surroundings).store(
            draft, chunks: chunks, delivered: Self.chunksIndexedAtOnce, prepare: writer.ensuringClient(draft.owner),
            deadline: deadline)
        let errors = await concurrently(stored.new) { chunk, _ in await self.storeChunk(chunk, deadline) }
        settle(stored.new.map(\.lease), errors, cacheError: nil)
        let goneErrors = await removePoints(stored.gone, deadline)
        settle(stored.gone, goneErrors, cacheError: nil)
        let hasFailed = errors.contains { $0 != nil }
        let isPending = !hasFailed && stored.new.count < chunks.count
        return DocumentReceipt(
            id: draft.id, chunks: chunks.count,
            storedIn: [database.name] + (hasFailed || isPending ? [] : [vectors.name]),
            failed: hasFailed ? [vectors.name] : [], pending: isPending ? [vectors.name] : [])
    }

    /// The chunks of a text. Cutting a large one takes longer than others should wait.
    private static func chunks(_ content: String, _ deadline: Deadline) async throws(MemoryError) -> [String] {
        guard content.utf8.count > 1 << 16 else { return Chunker().chunks(content) }
        return try await WorkThreads.shared.run(deadline: deadline) { Chunker().chunks(content) }
    }

    private func storeChunk(_ chunk: DocumentChunk, _ deadline: Deadline) async -> MemoryError? {
        let budget = PointDelivery.Budget(embedding: .seconds(2), vectors: .seconds(2))
        do throws(MemoryError) {
            try await delivery.store(.chunk(chunk), budget: budget, deadline: deadline)
            return nil
        } catch {
            return error
        }
    }

    /// The documents of some owners, newest first.
    public func documents(
        of owners: Owners, page: PageRequest = PageRequest()
    ) async throws(MemoryError) -> Page<Document> {
        try page.validate()
        let owners = try Self.list(owners)
        let rows = try await read { session throws(MemoryError) in
            try DocumentRepository(session: session).list(owners: owners, page: page)
        }
        return page.page(rows, id: \.rowID)
    }

    /// One document with its text: the client's own of that id, else the shared one.
    ///
    /// - Throws: ``MemoryError``: `not_found`; `invalid_request` for several clients, who may each have one of that id.
    public func document(_ id: String, of owners: Owners) async throws(MemoryError) -> Document {
        let owners = try Self.single(owners)
        let document = try await read { session throws(MemoryError) in
            try DocumentRepository(session: session).document(id, owners: owners)
        }
        return try Self.found(document)
    }

    /// Deletes a document.
    ///
    /// - Throws: ``MemoryError`` with `not_found`.
    public func deleteDocument(_ id: String, of owner: Owner) async throws(MemoryError) {
        try owner.validate()
        let client = owner.clientID ?? DocumentRepository.shared
        let deadline = Deadline.after(configuration.budgets.remember)
        let leases = try await database.write(deadline: deadline) { session throws(MemoryError) in
            try DocumentRepository(session: session).delete(id, clientID: client, lease: OutboxWorker.inlineLease)
        }
        guard let leases else { throw Self.missing }
        settle(leases, await removePoints(leases, deadline), cacheError: nil)
    }

    /// Finds the chunks that answer a question best, in the documents of a client, the shared ones, or both.
    ///
    /// When vectors cannot be searched, the primary store's full text answers.
    ///
    /// `limit`: how many, 1...100.
    public func searchDocuments(
        _ query: String, in owners: Owners, document: String? = nil, limit: Int = 3
    ) async throws(MemoryError) -> [DocumentHit] {
        let owners = try Self.single(owners)
        guard let first = owners.first else { return [] }
        var request = RecallRequest(query: query, clientID: first, limit: limit)
        request.sources = [.events]
        try request.validateQuestion()
        let deadline = Deadline.after(configuration.budgets.recall)
        let answers: [VectorAnswer]
        do throws(MemoryError) {
            answers = try await searchChunks(request, owners, document, deadline)
        } catch {
            return try await searchChunkText(request, owners, document, deadline)
        }
        var all = VectorAnswer()
        for answer in answers {
            all.dense += answer.dense
            all.sparse += answer.sparse
        }
        let ranked = fusion.rank(all, hints: QueryHints(query)).prefix(limit + 8)
        let keys = ranked.flatMap { entry in owners.map { RecordKey(id: entry.id, clientID: $0) } }
        let chunks = try await read { session throws(MemoryError) in
            try DocumentRepository(session: session).chunks(keys)
        }
        let byID = Dictionary(chunks.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        let hits = ranked.compactMap { entry in
            byID[entry.id].map { DocumentHit($0, similarity: entry.similarity) }
        }
        return Array(hits.prefix(limit))
    }

    private func searchChunks(
        _ request: RecallRequest, _ owners: [Int], _ document: String?, _ deadline: Deadline
    ) async throws(MemoryError) -> [VectorAnswer] {
        let vector = try await embeddings.vector(
            ofQuery: request.query, clientID: owners[0],
            deadline: deadline.capped(at: configuration.budgets.embedQuery))
        await cache.keep(vector, of: owners[0])
        let queries = owners.map { owner in
            VectorQuery(
                clientID: owner, dense: vector.values, sparse: .query(request.query), filter: RecallFilter(),
                documentID: document, limit: 50, now: surroundings.now)
        }
        return try await vectors.search(
            queries, in: .docChunks, deadline: deadline.capped(at: configuration.budgets.searchVectors))
    }

    private func searchChunkText(
        _ request: RecallRequest, _ owners: [Int], _ document: String?, _ deadline: Deadline
    ) async throws(MemoryError) -> [DocumentHit] {
        let words = Tokenizer.searchWords(request.query)
        guard !words.isEmpty else { return [] }
        let chunks = try await database.read(deadline: deadline.capped(at: configuration.budgets.searchText)) {
            session throws(MemoryError) in
            try DocumentRepository(session: session).search(
                words, owners: owners, documentID: document, limit: request.limit)
        }
        return chunks.map { DocumentHit($0, similarity: nil) }
    }

    /// The owners as the table has them.
    private static func list(_ owners: Owners) throws(MemoryError) -> [Int] {
        guard case .only(let clients) = owners.clients else {
            throw .invalid("client_id is required", field: "client_id")
        }
        try owners.validate()
        return clients.sorted() + (owners.includesShared ? [DocumentRepository.shared] : [])
    }

    /// A client's own first, then what is shared.
    private static func single(_ owners: Owners) throws(MemoryError) -> [Int] {
        let list = try list(owners)
        guard list.count <= (owners.includesShared ? 2 : 1) else {
            throw .invalid("client_id is required: the documents of several clients are meant", field: "client_id")
        }
        return list
    }
}

extension DocumentHit {
    fileprivate init(_ chunk: DocumentChunk, similarity: Double?) {
        self.init(
            documentID: chunk.documentID, index: chunk.index, content: chunk.content, similarity: similarity,
            metadata: chunk.metadata)
    }
}
