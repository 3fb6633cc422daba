import Logging

/// Delivers what only caches are owed: new generations and dropped copies for rows whose points are stored, and erasures.
///
/// It has a loop of its own: it is quick, and other gateways serve what was recalled before until it is done, so it must not
/// wait behind deliveries of points. A gateway whose own writes to short-term memory fail takes nothing, so that another one,
/// which reaches it, can.
final class CacheOutbox: Sendable {
    private static let interval: Duration = .milliseconds(500)
    /// A gateway that dies leaves its rows to others after this.
    private static let lease: Duration = .seconds(5)
    private static let batch = 256

    private let database: any SQLDatabase
    private let cache: MemoryCache
    private let erasures: Erasures
    private let erasing: Outage
    private let telling: Outage
    private let surroundings: any Surroundings

    init(
        database: any SQLDatabase, cache: MemoryCache, erasures: Erasures, logger: Logger,
        surroundings: any Surroundings
    ) {
        self.database = database
        self.cache = cache
        self.erasures = erasures
        erasing = Outage("Erasing from short-term memory", logger: logger, surroundings: surroundings)
        telling = Outage("Telling the caches", logger: logger, surroundings: surroundings)
        self.surroundings = surroundings
    }

    /// Works until the task is cancelled.
    ///
    /// `report` takes what became of the rows.
    func run(_ report: (OutboxRepository.Lease, MemoryError?) -> Void) async {
        while !Task.isCancelled {
            let isFull = await look(report)
            if !isFull { try? await surroundings.sleep(for: Self.interval * surroundings.random(in: 0.9...1)) }
        }
    }

    /// Delivers what is due, a bounded number.
    ///
    /// - Returns: whether more may be due.
    @discardableResult
    func look(_ report: (OutboxRepository.Lease, MemoryError?) -> Void) async -> Bool {
        do throws(MemoryError) {
            try await erasures.deliver()
            erasing.succeeded()
        } catch {
            erasing.failed(error)
        }
        do throws(MemoryError) {
            guard await cache.canWrite() else { return false }
            let leases = try await database.write(deadline: .after(.seconds(2)), durable: false) {
                session throws(MemoryError) in
                try OutboxRepository(session: session).claimStored(limit: Self.batch, lease: Self.lease)
            }
            telling.succeeded()
            guard !leases.isEmpty else { return false }
            let error = await cache.drop(leases)
            for lease in leases { report(lease, error) }
            return error == nil && leases.count == Self.batch
        } catch {
            telling.failed(error)
            return false
        }
    }
}

extension MemoryCache {
    /// Drops copies of what rows of the outbox are about, and marks recalls of their clients as old.
    ///
    /// - Returns: why it failed; nil when it did not.
    func drop(_ leases: [OutboxRepository.Lease]) async -> MemoryError? {
        guard !leases.isEmpty else { return nil }
        let chunks = VectorCollection.docChunks.description
        do throws(MemoryError) {
            // The copies as well: the write that left this row may have failed to replace them.
            try await drop(
                leases.filter { $0.collection != chunks }.map(\.key), of: Set(leases.map(\.key.clientID)),
                deadline: .after(.seconds(1)))
            return nil
        } catch {
            return error
        }
    }
}
