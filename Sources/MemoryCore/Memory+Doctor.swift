public import Logging

extension Memory {
    /// What was found about one part of a memory.
    public struct Finding: Sendable {
        /// The part: a store's name, `schema`, `collections` or `embeddings`.
        public let subject: String
        /// Whether it is as it should be.
        public let isGood: Bool
        /// What was found and, when it is not good, what to do.
        public let text: String
    }

    /// Looks at every store, the schema, the keys, the collections and the embeddings, and changes nothing but what opening
    /// an embedded file makes.
    ///
    /// `allowsAnonymous`: whether it is good that there are no keys.
    public static func examine(
        _ configuration: MemoryConfiguration, allowsAnonymous: Bool = true, logger: Logger = Logger(label: "memory")
    ) async throws(MemoryError) -> [Finding] {
        let stores = try await OpenStores(configuration, logger: logger)
        var findings: [Finding] = []
        findings.append(await schema(stores.database, configuration))
        if let keys = await keys(stores.database, configuration, allowsAnonymous) { findings.append(keys) }
        findings.append(
            await finding(stores.vectors.name.description, "start it, or correct its address (QDRANT_URL) and key") {
                () throws(MemoryError) in
                try await stores.vectors.ping(deadline: .after(.seconds(5)))
                return "answers"
            })
        if configuration.vectors == .server { findings.append(await collections(configuration)) }
        findings.append(
            await finding(stores.shortTerm.name.description, "start it, or correct its address (VALKEY_URL)") {
                () throws(MemoryError) in
                try await stores.shortTerm.ping(deadline: .after(.seconds(5)))
                return "answers"
            })
        findings.append(await embeddings(configuration, stores.vectors))
        await stores.vectors.close()
        await stores.shortTerm.close()
        await stores.database.close()
        return findings
    }

    private static func schema(_ database: any SQLDatabase, _ configuration: MemoryConfiguration) async -> Finding {
        await finding(database.name.description, "start it, or correct its address (DATABASE_URL); then run migrate") {
            () throws(MemoryError) in
            let steps = try await Migrator(database: database).run(dryRun: true, deadline: .after(.seconds(5)))
            do throws(MemoryError) {
                try await database.checkWritable(deadline: .after(.seconds(5)))
            } catch {
                guard error.isReadOnly else { throw error }
                throw MemoryError(
                    .configuration,
                    "answers, but is read-only: name the primary in DATABASE_URL, or all hosts with commas between; "
                        + "else set default_transaction_read_only to off")
            }
            let pending = steps.count { $0.state == .pending }
            guard pending > 0 else { return "answers, all \(steps.count) migrations applied" }
            guard configuration.setsUpStores else {
                throw MemoryError(.configuration, "\(pending) migrations are missing: run memory-gateway migrate")
            }
            return "answers; \(pending) migrations will be applied at the start"
        }
    }

    /// Whether anybody needs a key; nil when that cannot be read, which is a finding of its own.
    private static func keys(
        _ database: any SQLDatabase, _ configuration: MemoryConfiguration, _ allowsAnonymous: Bool
    ) async -> Finding? {
        let stored = try? await database.read(deadline: .after(.seconds(5))) { session throws(MemoryError) in
            try KeyRepository(session: session).keys()
        }
        let fixed = configuration.apiKeys.count
        // Before the first migration there are none.
        guard let stored = stored ?? (database.name == .sqlite ? [] : nil) else { return nil }
        let live = stored.count { $0.isLive(at: SystemSurroundings().now) }
        if fixed > 0 || live > 0 {
            return Finding(subject: "access", isGood: true, text: "\(fixed) keys in API_KEYS, \(live) live keys stored")
        }
        guard stored.isEmpty else {
            return Finding(
                subject: "access", isGood: false,
                text: "every key has ended, and every call is refused: run memory-gateway keys create")
        }
        let text = "open: there are no API keys, whoever reaches the gateway reads and writes all"
        guard !allowsAnonymous else { return Finding(subject: "access", isGood: true, text: text) }
        return Finding(
            subject: "access", isGood: false,
            text:
                "\(text), and its address is not loopback: run memory-gateway keys create, or set ALLOW_ANONYMOUS=true")
    }

    private static func collections(_ configuration: MemoryConfiguration) async -> Finding {
        await finding("collections", "run memory-gateway setup") { () throws(MemoryError) in
            let reports = try await setUpCollections(configuration, check: true)
            let wrong = reports.filter { $0.state != "matches" }
            guard let first = wrong.first else { return "all \(reports.count) are as declared" }
            throw MemoryError(
                .configuration, "\(first.name): \(first.differences.joined(separator: "; "))")
        }
    }

    private static func embeddings(_ configuration: MemoryConfiguration, _ vectors: any VectorStore) async -> Finding {
        await finding("embeddings", "correct EMBEDDINGS_URL, EMBEDDINGS_MODEL or EMBEDDINGS_API_KEY") {
            () throws(MemoryError) in
            let model = configuration.embeddings?.model ?? LexicalEmbedder().model
            // A vector store that does not answer is a finding of its own.
            if let other = try? await otherModel(than: model, vectors) {
                throw MemoryError(.configuration, advice(on: other))
            }
            guard let settings = configuration.embeddings else {
                return "lexical; for vectors of meaning set EMBEDDINGS_URL and EMBEDDINGS_MODEL, with Ollama for "
                    + "instance http://127.0.0.1:11434/v1 and nomic-embed-text"
            }
            let embedder = try OpenAIEmbedder(settings)
            let result = await embedder.embed(["memory"], deadline: .after(.seconds(10)))
            await embedder.close()
            for vector in result { _ = try vector.get() }
            return "\(model) answers"
        }
    }

    private static func finding(
        _ subject: String, _ remedy: String, _ check: () async throws(MemoryError) -> String
    ) async -> Finding {
        do throws(MemoryError) {
            return Finding(subject: subject, isGood: true, text: try await check())
        } catch {
            let what = error.code == .configuration ? error.message : "\(error.message): \(remedy)"
            return Finding(subject: subject, isGood: false, text: what)
        }
    }
}
