public import Logging

extension Memory {
    /// Opens a memory.
    ///
    /// Stores that are away do not keep it from opening: it goes on trying to reach them, and says so in ``health()``.
    ///
    /// - Throws: ``MemoryError`` with `configuration` for what only a person can mend: a collection of another size, an
    ///   edited migration history, a model with too many dimensions.
    public static func open(
        _ configuration: MemoryConfiguration, logger: Logger = Logger(label: "memory")
    ) async throws(MemoryError) -> Memory {
        let embedder: any Embedder
        if let settings = configuration.embeddings {
            embedder = try OpenAIEmbedder(
                settings, outage: Outage(of: .embeddings, logger: logger))
        } else {
            embedder = LexicalEmbedder()
            logger.notice(
                """
                Vectors are lexical: recall finds shared words, not shared meaning. For meaning set EMBEDDINGS_URL and \
                EMBEDDINGS_MODEL, with Ollama for instance http://127.0.0.1:11434/v1 and nomic-embed-text
                """,
                metadata: [LogKey.model: "\(embedder.model)"])
        }
        let stores = try await OpenStores(configuration, logger: logger)
        var subscriber: ValkeySubscriber?
        if !configuration.followedChannels.isEmpty, configuration.shortTerm == .server {
            subscriber = try ValkeySubscriber(
                configuration.valkey, channels: configuration.followedChannels, logger: logger)
        }
        let memory = Memory(
            configuration, stores: stores, embedder: embedder, subscriber: subscriber, logger: logger)
        do throws(MemoryError) {
            try await memory.checkEmbeddings()
            let (first, prepared) = AsyncStream<MemoryError?>.makeStream()
            memory.startBackground(prepared: prepared)
            try await memory.wait(for: first)
        } catch {
            await memory.close()
            throw error
        }
        return memory
    }

    /// How long opening waits for the stores to be prepared. A migration may take long, and one whose commit waits for a
    /// standby that is not there has no end; meanwhile the memory is open, and not ready.
    private static let patience: Duration = .seconds(5)

    /// Waits for the end of the first try to prepare the stores, if it comes soon.
    ///
    /// - Throws: ``MemoryError`` with `configuration`; what may pass by itself is tried again in the background.
    private func wait(for first: AsyncStream<MemoryError?>) async throws(MemoryError) {
        // A file of our own is prepared in no time, or its disk is as slow as all that would follow.
        let isBounded = configuration.records == .server
        let failure = await withTaskGroup(of: MemoryError?.self) { group in
            group.addTask { await first.first { _ in true } ?? nil }
            if isBounded {
                group.addTask { [surroundings] in
                    try? await surroundings.sleep(for: Self.patience)
                    return nil
                }
            }
            let failure = await group.next() ?? nil
            group.cancelAll()
            return failure
        }
        if let failure, failure.code == .configuration { throw failure }
    }

    /// Asks the provider for one vector, so that a model that cannot serve is known at the start and not by its failures.
    private func checkEmbeddings() async throws(MemoryError) {
        do throws(MemoryError) {
            try await embeddings.check(deadline: .after(.seconds(5)))
        } catch {
            guard error.code != .configuration else { throw error }
            logger.warning(
                "The embedding provider does not answer as it should",
                metadata: [LogKey.error: "\(error.debugDescription)"])
        }
    }

    /// Applies migrations and creates collections.
    private func prepare() async throws(MemoryError) {
        guard configuration.setsUpStores else { return }
        let steps = try await Migrator(database: database).run(deadline: .after(.seconds(600)))
        for step in steps where step.state == .applied {
            logger.notice("Migration applied", metadata: [LogKey.name: "\(step.name)"])
        }
        try await vectors.setUp(deadline: .after(.seconds(60)))
    }

    /// Prepares the stores, however long they are away; says how the first try ended.
    func prepareUntilDone(_ first: AsyncStream<MemoryError?>.Continuation) async {
        let backoff = Backoff(base: .milliseconds(200), cap: .seconds(5))
        let outage = Outage("The setup of the stores", level: .error, logger: logger, surroundings: surroundings)
        var failures = 0
        defer { first.finish() }
        while !Task.isCancelled {
            do throws(MemoryError) {
                try await prepare()
                if failures > 0 { logger.notice("The stores are ready") }
                outage.succeeded()
                return
            } catch {
                failures += 1
                // That a store is away is said by the store.
                if error.code == .configuration { outage.failed(error) }
                first.yield(error)
                first.finish()
                try? await surroundings.sleep(for: backoff.delay(attempt: failures, surroundings))
            }
        }
    }
}
