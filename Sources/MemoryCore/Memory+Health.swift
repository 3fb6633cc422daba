import Logging
import Synchronization

extension Memory {
    /// Whether each store answers.
    public struct Health: Sendable {
        /// What a store does.
        public enum State: String, Sendable, CaseIterable {
            case up, down
            /// It answers and takes no writes: a standby, a database that was set so, a full disk.
            case readOnly = "read-only"
        }

        /// Each store by its name, and what it does.
        public let dependencies: [(store: MemoryError.Store, state: State)]
        /// How long this memory has been open.
        public let uptime: Duration

        /// Whether all are up.
        public var isHealthy: Bool { dependencies.allSatisfy { $0.state == .up } }

        /// Whether a store is up.
        public func isUp(_ store: MemoryError.Store) -> Bool {
            dependencies.contains { $0.store == store && $0.state == .up }
        }
    }

    /// What serves records, vectors and short-term memory, and where embedded data lies.
    package var places: (records: String, vectors: String, shortTerm: String) {
        func place(_ store: MemoryError.Store, _ place: MemoryConfiguration.Place) -> String {
            place == .embedded ? "\(store) in \(configuration.embedded.path)" : store.description
        }
        return (
            place(database.name, configuration.records), place(vectors.name, configuration.vectors),
            cache.store.name.description
        )
    }

    /// Looks whether the primary store keeps its promise that what is committed stays; says so when it does not.
    func checkDurability() async {
        let found = try? await database.read(deadline: .after(.seconds(5))) { session throws(MemoryError) -> [String] in
            guard session.dialect == .postgres else {
                let level = try session.query("PRAGMA synchronous", []).first?.int(0) ?? 0
                return level >= 1 ? [] : ["sqlite: synchronous is off"]
            }
            let rows = try session.query(
                """
                SELECT name, setting FROM pg_settings
                WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'
                """, [])
            return try rows.map { row throws(MemoryError) in "postgres: \(try row.text(0)) is off" }
        }
        guard let found, !found.isEmpty else { return }
        // It may be looked at twice.
        warned.withLock { warned in warned += found.filter { !warned.contains($0) } }
        logger.warning(
            "A loss of power may lose what was acknowledged",
            metadata: [LogKey.name: "\(found.joined(separator: ", "))"])
    }

    /// Looks whether another model than the present one made any vectors: the two are not comparable, so that recall finds
    /// the wrong memories and nothing fails.
    func checkModel() async {
        guard let other = try? await Self.otherModel(than: embeddings.model, vectors) else { return }
        warned.withLock { $0.append("embeddings: \(Self.advice(on: other))") }
        logger.warning("Vectors of another model", metadata: [LogKey.model: "\(other)", LogKey.name: "reindex"])
    }

    static func otherModel(than model: String, _ vectors: any VectorStore) async throws(MemoryError) -> String? {
        for collection in VectorCollection.all {
            let deadline = Deadline.after(.seconds(5))
            if let other = try await vectors.otherModel(than: model, in: collection, deadline: deadline) {
                return other
            }
        }
        return nil
    }

    static func advice(on model: String) -> String {
        "some vectors were made by \(model): run memory-gateway reindex"
    }

    /// What the operator should know: settings under which a loss of power may lose what was acknowledged, and vectors
    /// of another model.
    public var warnings: [String] { warned.withLock { $0 } }

    /// Asks every store at once; within two seconds, whatever hangs. What was found within the last second is not asked
    /// again.
    public func health() async -> Health {
        let dependencies = await healthChecks.run { [self] in
            await Lane.$current.withValue(.health) { await askStores() }
        }
        return Health(dependencies: dependencies, uptime: surroundings.instant - startedAt)
    }

    private func askStores() async -> HealthChecks.Finding {
        async let primary = state(within: .milliseconds(1500)) { [database] deadline throws(MemoryError) in
            _ = try await database.read(deadline: deadline) { session throws(MemoryError) in
                try session.query("SELECT 1 FROM events LIMIT 0", [])
            }
            try await database.checkWritable(deadline: deadline)
        }
        async let points = state(within: .milliseconds(1500)) { [vectors] deadline throws(MemoryError) in
            try await vectors.ping(deadline: deadline)
        }
        // What takes longer is of no use to a cache.
        async let short = state(within: .milliseconds(250)) { [cache] deadline throws(MemoryError) in
            try await cache.store.ping(deadline: deadline)
        }
        return await [(database.name, primary), (vectors.name, points), (cache.store.name, short)]
    }

    /// Whether the primary store answers with our schema and takes writes: all that a request needs.
    public func isReady() async -> Bool { await health().isUp(database.name) }

    private nonisolated func state(
        within time: Duration, _ check: @Sendable (Deadline) async throws(MemoryError) -> Void
    ) async -> Health.State {
        do throws(MemoryError) {
            try await check(.after(time))
            return .up
        } catch {
            return error.isReadOnly ? .readOnly : .down
        }
    }
}

/// Keeps the last finding for a second, and lets calls that come at the same time share one.
final class HealthChecks: Sendable {
    typealias Finding = [(store: MemoryError.Store, state: Memory.Health.State)]

    private let last = Mutex<(finding: Finding, freshUntil: Deadline)?>(nil)
    private let running = SingleFlight<String, Finding>()

    func run(_ check: () async -> Finding) async -> Finding {
        if let last = last.withLock({ $0 }), !last.freshUntil.hasPassed { return last.finding }
        let result = try? await running.run("all") { () throws(MemoryError) in
            let finding = await check()
            last.withLock { $0 = (finding, .after(.seconds(1))) }
            return finding
        }
        return result ?? []
    }
}
