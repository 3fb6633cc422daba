import Logging
import Metrics
import Synchronization

/// Compares the vector store with the records, which are the truth, and has what differs put right: points that are missing
/// or show an old version are asked for again, points that stand for nothing are removed.
///
/// Vectors can be lost after they were acknowledged: Qdrant answers before it has written to disk, a snapshot may be old, a
/// collection made anew. The outbox knows nothing of that. Numbers are compared once a minute; where they differ, ids and
/// versions are. Where they are the same, a few thousand ids are compared all the same, each minute the next ones: the
/// numbers tell nothing of a point that is old, or of one that is lost while another stands for nothing.
final class Reconciler: Sendable {
    /// How often the numbers are compared.
    private static let interval: Duration = .seconds(60)
    private static let page = 1000
    /// How many pages are compared while the numbers are the same.
    private static let pagesWhileEven = 4

    /// What a pass found.
    struct Finding: Sendable, Equatable {
        var missing = 0
        /// Points that show an earlier version of their record, or one that the records have lost.
        var stale = 0
        var foreign = 0

        static func += (left: inout Finding, right: Finding) {
            left.missing += right.missing
            left.stale += right.stale
            left.foreign += right.foreign
        }
    }

    /// Where the next comparison begins.
    private struct Position {
        var record: Int64 = 0
        var point: Int64?
    }

    private let positions = Mutex<[VectorCollection: Position]>([:])

    private let database: any SQLDatabase
    private let vectors: any VectorStore
    private let logger: Logger
    private let surroundings: any Surroundings
    private let missing = Counter(label: "memory_gateway_reconciler_missing_total")
    private let stale = Counter(label: "memory_gateway_reconciler_stale_total")
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
            let isEven = always ? false : try await isEven(collection, deadline)
            let finding = try await isEven ? compareSome(collection) : compareAll(collection)
            total += finding
            if finding != Finding() {
                logger.warning(
                    "Vectors differed from records, and are put right",
                    metadata: [
                        LogKey.name: "\(collection)", "missing": "\(finding.missing)", "stale": "\(finding.stale)",
                        "foreign": "\(finding.foreign)",
                    ])
            }
        }
        lastSuccess.withLock { $0 = surroundings.instant }
        missing.increment(by: total.missing)
        stale.increment(by: total.stale)
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

    private func compareAll(_ collection: VectorCollection) async throws(MemoryError) -> Finding {
        var finding = try await compareRecords(collection, after: 0).finding
        finding.foreign = try await removeForeign(collection, after: nil).count
        return finding
    }

    /// Compares the next few, from the beginning again after the last.
    private func compareSome(_ collection: VectorCollection) async throws(MemoryError) -> Finding {
        let start = positions.withLock { $0[collection] ?? Position() }
        var (finding, record) = try await compareRecords(
            collection, after: start.record, pages: Self.pagesWhileEven)
        let (foreign, point) = try await removeForeign(
            collection, after: start.point, pages: Self.pagesWhileEven)
        finding.foreign = foreign
        positions.withLock { $0[collection] = Position(record: record ?? 0, point: point) }
        return finding
    }

    /// Compares records with their points, in the order of their ids.
    ///
    /// - Returns: what was found, and the last id; nil once there are no more.
    private func compareRecords(
        _ collection: VectorCollection, after first: Int64, pages: Int = .max
    ) async throws(MemoryError) -> (finding: Finding, last: Int64?) {
        var finding = Finding()
        var last = first
        var page = 0
        while !Task.isCancelled {
            guard page < pages else { return (finding, last) }
            page += 1
            let start = last
            let deadline = Deadline.after(.seconds(10))
            let records = try await database.read(deadline: deadline) { session throws(MemoryError) in
                try ReconciliationRepository(session: session).settled(collection, after: start, limit: Self.page)
            }
            guard let newest = records.last?.key.id else { break }
            last = newest
            // After the records were read: what was owed nothing then has a point of that version, or a newer one.
            let points = try await vectors.versions(of: records.map(\.key.id), in: collection, deadline: deadline)
            let missing = records.filter { points[$0.key.id] == nil }.map(\.key)
            var stale = records.filter { points[$0.key.id] ?? .max < $0.version }.map(\.key)
            let ahead = records.filter { points[$0.key.id] ?? 0 > $0.version }.map(\.key)
            if !ahead.isEmpty { stale += try await removeLost(ahead, points, collection, deadline) }
            let wanted = missing + stale
            if !wanted.isEmpty {
                try await database.write(deadline: deadline) { session throws(MemoryError) in
                    let outbox = OutboxRepository(session: session)
                    for key in wanted { _ = try outbox.enqueue(key, in: collection, lease: .zero) }
                }
            }
            finding.missing += missing.count
            finding.stale += stale.count
        }
        return (finding, nil)
    }

    /// Removes points that are newer than their records: the primary store has lost a change, as after a restored backup. They
    /// would keep every write of the records out.
    ///
    /// - Returns: whose they were.
    private func removeLost(
        _ keys: [RecordKey], _ points: [Int64: Int64], _ collection: VectorCollection, _ deadline: Deadline
    ) async throws(MemoryError) -> [RecordKey] {
        // Most were changed since they were read.
        let versions = try await database.read(deadline: deadline) { session throws(MemoryError) in
            try EventRepository(session: session).versions(keys.map(\.id))
        }
        let lost = keys.filter { points[$0.id] ?? 0 > versions[$0.id] ?? 1 }
        try await vectors.delete(lost.map(\.id), in: collection, deadline: deadline)
        return lost
    }

    /// - Returns: how many there were, and the last id; nil once there are no more.
    private func removeForeign(
        _ collection: VectorCollection, after first: Int64?, pages: Int = .max
    ) async throws(MemoryError) -> (count: Int, last: Int64?) {
        var found = 0
        var last = first
        var page = 0
        while !Task.isCancelled {
            guard page < pages else { return (found, last) }
            page += 1
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
        return (found, nil)
    }
}
