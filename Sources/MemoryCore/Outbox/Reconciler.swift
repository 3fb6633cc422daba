import Logging
import Metrics
import Synchronization

/// Compares the vector store with the records, which are the truth, and has what differs put right: points that are missing
/// are asked for again, points that stand for nothing are removed.
///
/// Vectors can be lost after they were acknowledged: Qdrant answers before it has written to disk, a snapshot may be old, a
/// collection made anew. The outbox knows nothing of that. Numbers are compared once a minute; where they differ, ids are.
final class Reconciler: Sendable {
    /// How often the numbers are compared.
    private static let interval: Duration = .seconds(60)
    private static let page = 1000

    /// What a pass found.
    struct Finding: Sendable, Equatable {
        var missing = 0
        var foreign = 0
    }

    private let database: any SQLDatabase
    private let vectors: any VectorStore
    private let logger: Logger
    private let surroundings: any Surroundings
    private let missing = Counter(label: "memory_gateway_reconciler_missing_total")
    private let foreign = Counter(label: "memory_gateway_reconciler_foreign_total")
    private let outage: Outage
    private let lastSuccess: Mutex<ContinuousClock.Instant>

    init(database: any SQLDatabase, vectors: any VectorStore, logger: Logger, surroundings: any Surroundings) {
        self.database = database
        self.vectors = vectors
        self.logger = logger
        self.surroundings = surroundings
        outage = Outage("Comparing vectors with records", logger: logger, surroundings: surroundings)
        lastSuccess = Mutex(surroundings.instant)
    }

    /// How long ago vectors and records were last compared; before the first time, since the start.
    var age: Duration { surroundings.instant - lastSuccess.withLock { $0 } }

    /// Works until the task is cancelled.
    func run() async {
        while !Task.isCancelled {
            // Not all gateways at the same moment.
            try? await surroundings.sleep(for: Self.interval * surroundings.random(in: 0.8...1))
            guard !Task.isCancelled else { return }
            do throws(MemoryError) {
                try await reconcile()
                outage.succeeded()
            } catch {
                outage.failed(error)
            }
        }
    }

    /// Compares every collection, and has what differs put right.
    ///
    /// With `always` ids are compared even where the numbers are the same.
    @discardableResult
    func reconcile(always: Bool = false) async throws(MemoryError) -> Finding {
        var total = Finding()
        for collection in VectorCollection.all {
            let deadline = Deadline.after(.seconds(30))
            if !always, try await isEven(collection, deadline) { continue }
            let finding = Finding(
                missing: try await enqueueMissing(collection), foreign: try await removeForeign(collection))
            total.missing += finding.missing
            total.foreign += finding.foreign
            if finding != Finding() {
                logger.warning(
                    "Vectors differed from records, and are put right",
                    metadata: [
                        LogKey.name: "\(collection)", "missing": "\(finding.missing)", "foreign": "\(finding.foreign)",
                    ])
            }
        }
        lastSuccess.withLock { $0 = surroundings.instant }
        missing.increment(by: total.missing)
        foreign.increment(by: total.foreign)
        return total
    }

    /// Whether the numbers are the same; what the outbox still owes may make them differ.
    private func isEven(_ collection: VectorCollection, _ deadline: Deadline) async throws(MemoryError) -> Bool {
        let points = try await vectors.count(in: collection, deadline: deadline)
        let (records, owed) = try await database.read(deadline: deadline) { session throws(MemoryError) in
            try ReconciliationRepository(session: session).counts(collection)
        }
        return points == records || (owed > 0 && abs(points - records) <= owed)
    }

    private func enqueueMissing(_ collection: VectorCollection) async throws(MemoryError) -> Int {
        var found = 0
        var last: Int64 = 0
        while !Task.isCancelled {
            let start = last
            let deadline = Deadline.after(.seconds(10))
            let keys = try await database.read(deadline: deadline) { session throws(MemoryError) in
                try ReconciliationRepository(session: session).settled(collection, after: start, limit: Self.page)
            }
            guard let newest = keys.last?.id else { break }
            last = newest
            let known = try await vectors.existing(keys.map(\.id), in: collection, deadline: deadline)
            let missing = keys.filter { !known.contains($0.id) }
            if !missing.isEmpty {
                try await database.write(deadline: deadline) { session throws(MemoryError) in
                    let outbox = OutboxRepository(session: session)
                    for key in missing { _ = try outbox.enqueue(key, in: collection, lease: .zero) }
                }
            }
            found += missing.count
        }
        return found
    }

    private func removeForeign(_ collection: VectorCollection) async throws(MemoryError) -> Int {
        var found = 0
        var last: Int64?
        while !Task.isCancelled {
            let deadline = Deadline.after(.seconds(10))
            let ids = try await vectors.ownIDs(in: collection, after: last, limit: Self.page, deadline: deadline)
            guard let newest = ids.last else { break }
            last = newest
            // After the points were read: a point that is there has a record that was committed before it.
            let known = try await database.read(deadline: deadline) { session throws(MemoryError) in
                try ReconciliationRepository(session: session).existing(ids, collection)
            }
            let foreign = ids.filter { !known.contains($0) }
            try await vectors.delete(foreign, in: collection, deadline: deadline)
            found += foreign.count
        }
        return found
    }
}
