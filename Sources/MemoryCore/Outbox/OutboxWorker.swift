import Logging
import Synchronization

/// Delivers what a remember could not: takes due rows of the outbox, brings their points in line, tells the caches, and
/// clears the rows. Any number of gateways may run one each.
final class OutboxWorker: Sendable {
    /// How long rows are ours after a remember or a claim. A gateway that dies leaves its rows to others after this.
    static let inlineLease: Duration = .seconds(5)
    private static let claimLease: Duration = .seconds(30)
    private static let batch = 64
    private static let maxAttempts = 8
    private static let budget = PointDelivery.Budget(embedding: .seconds(10), vectors: .seconds(10))
    private static let backoff = Backoff(base: .milliseconds(200), cap: .seconds(60))
    private static let longestRetryAfter: Duration = .seconds(600)

    private struct Pending {
        var done: [OutboxRepository.Lease] = []
        var failures: [OutboxRepository.Failure] = []
        var isEmpty: Bool { done.isEmpty && failures.isEmpty }
    }

    private let database: any SQLDatabase
    private let delivery: PointDelivery
    private let cache: MemoryCache
    private let cacheOutbox: CacheOutbox
    private let logger: Logger
    private let surroundings: any Surroundings
    private let reading: Outage
    private let updating: Outage
    private let sweeping: Outage
    private let trusting: Outage
    private let pending = Mutex(Pending())
    /// The client whose rows were claimed last.
    private let turn = Mutex(0)
    private static let sweepBatch = 200
    private let nextExpirySweep: Timer
    private let nextKeySweep: Timer

    init(
        database: any SQLDatabase, delivery: PointDelivery, cache: MemoryCache, erasures: Erasures, logger: Logger,
        surroundings: any Surroundings
    ) {
        self.database = database
        self.delivery = delivery
        self.cache = cache
        cacheOutbox = CacheOutbox(
            database: database, cache: cache, erasures: erasures, logger: logger, surroundings: surroundings)
        self.logger = logger
        self.surroundings = surroundings
        reading = Outage("Reading the outbox", logger: logger, surroundings: surroundings)
        updating = Outage("Updating the outbox", logger: logger, surroundings: surroundings)
        sweeping = Outage("Forgetting what is over", logger: logger, surroundings: surroundings)
        trusting = Outage("Trusting the cache again", logger: logger, surroundings: surroundings)
        nextExpirySweep = Timer(surroundings)
        nextKeySweep = Timer(surroundings)
    }

    // MARK: What a remember reports

    /// Notes that a row was delivered. It is cleared with others in a moment; until then its lease protects it.
    func delivered(_ lease: OutboxRepository.Lease) { pending.withLock { $0.done.append(lease) } }

    /// Notes that a delivery failed.
    func failed(_ lease: OutboxRepository.Lease, _ error: MemoryError, isStored: Bool) {
        let failure = failure(lease, error, isStored: isStored)
        if failure.isDead {
            logger.error(
                "A memory cannot be indexed, and is given up on",
                metadata: [LogKey.error: "\(error.debugDescription)", LogKey.memory: "\(lease.key.id)"])
        }
        pending.withLock { $0.failures.append(failure) }
    }

    /// Notes what became of telling the caches, of a row whose point is as it should be.
    private func report(_ lease: OutboxRepository.Lease, _ error: MemoryError?) {
        if let error { failed(lease, error, isStored: true) } else { delivered(lease) }
    }

    /// A store that is away costs a row nothing but a short wait; what is the row's own fault counts, and ends it.
    private func failure(
        _ lease: OutboxRepository.Lease, _ error: MemoryError, isStored: Bool
    ) -> OutboxRepository.Failure {
        // What only the caches are owed, another gateway may be able to tell them at once.
        var delay = isStored ? .zero : Duration.seconds(surroundings.random(in: 0.5...1.5))
        if !error.isRetriable { delay = Self.backoff.delay(attempt: lease.attempts + 1, surroundings) }
        if let wait = error.retryAfter { delay = max(delay, min(wait, Self.longestRetryAfter)) }
        let isDead = !error.isRetriable && lease.attempts + 1 >= Self.maxAttempts
        let name = [error.store?.description, error.code.description, error.driverCode].compactMap { $0 }
        return OutboxRepository.Failure(
            lease: lease, error: name.joined(separator: " "), delay: delay, counts: !error.isRetriable, isDead: isDead,
            isStored: isStored && !needsConfirmation(lease))
    }

    /// Whether a delivery must be repeated once no older write can be under way any more.
    private func needsConfirmation(_ lease: OutboxRepository.Lease) -> Bool {
        lease.isShared && !delivery.vectors.keepsNewest
    }

    // MARK: The loop

    /// Works until the task is cancelled; then reports what is left to report.
    func run() async {
        // Each with a loop of its own: a delivery may take half a minute, and a report that comes after its lease is none.
        async let reports: Void = flushRegularly()
        async let caches: Void = cacheOutbox.run(report)
        await deliverRegularly()
        _ = await (reports, caches)
        await flush()
    }

    private func flushRegularly() async {
        while !Task.isCancelled {
            await flush()
            try? await surroundings.sleep(for: .milliseconds(100))
        }
    }

    private func deliverRegularly() async {
        var idle = 0
        while !Task.isCancelled {
            // New rows are delivered by who wrote them, so one look a second is enough while there is nothing to do.
            idle = idle % 10 + 1
            var pause = Duration.milliseconds(100)
            if idle == 1 {
                let start = surroundings.instant
                if await look() {
                    idle = 0
                    // As long again for those who wait for an answer: a backlog must not slow them down.
                    pause = min(pause, surroundings.instant - start)
                }
            }
            try? await surroundings.sleep(for: pause)
        }
    }

    /// Delivers a batch of what is due, and forgets what is over.
    ///
    /// - Returns: whether more may be due.
    @discardableResult
    func look() async -> Bool {
        await flush()
        await cacheOutbox.look(report)
        let count = await deliverBatch()
        await flush()
        await trustCacheAgain()
        await sweepWhenDue()
        return count == Self.batch
    }

    /// After an outage of the cache that was too long to remember each write: once nothing is owed, nothing there is old.
    private func trustCacheAgain() async {
        guard let failures = cache.failuresBeyondMeasure else { return }
        do throws(MemoryError) {
            let owed = try await database.read(deadline: .after(.seconds(5))) { session throws(MemoryError) in
                try OutboxRepository(session: session).counts()
            }
            if owed.pending + owed.dead == 0 { cache.trustAgain(asOf: failures) }
            trusting.succeeded()
        } catch {
            trusting.failed(error)
        }
    }

    /// Writes what was reported: one transaction for all of it. It need not be durable: a row that comes back is delivered
    /// once more, which changes nothing.
    func flush() async {
        let batch = pending.withLock { pending in
            defer { pending = Pending() }
            return pending
        }
        guard !batch.isEmpty else { return }
        let done = batch.done.filter { !needsConfirmation($0) }
        let unconfirmed = batch.done.filter(needsConfirmation)
        do throws(MemoryError) {
            // Each set by itself: two sets of rows in one transaction would be locked out of order.
            if !done.isEmpty {
                try await database.write(deadline: .after(.seconds(5)), durable: false) { session throws(MemoryError) in
                    try OutboxRepository(session: session).complete(done)
                }
            }
            if !unconfirmed.isEmpty {
                try await database.write(deadline: .after(.seconds(5)), durable: false) { session throws(MemoryError) in
                    try OutboxRepository(session: session).confirmLater(unconfirmed)
                }
            }
            guard !batch.failures.isEmpty else { return }
            try await database.write(deadline: .after(.seconds(5)), durable: false) { session throws(MemoryError) in
                try OutboxRepository(session: session).postpone(batch.failures)
            }
            updating.succeeded()
        } catch {
            updating.failed(error)
        }
    }

    /// Delivers one batch of due rows.
    ///
    /// - Returns: how many rows there were.
    private func deliverBatch() async -> Int {
        do throws(MemoryError) {
            let last = turn.withLock { $0 }
            let (leases, next) = try await database.write(deadline: .after(.seconds(5))) {
                session throws(MemoryError) in
                var turn = last
                let outbox = OutboxRepository(session: session)
                let leases = try outbox.claim(limit: Self.batch, lease: Self.claimLease, turn: &turn)
                return (leases, turn)
            }
            turn.withLock { $0 = next }
            reading.succeeded()
            guard !leases.isEmpty else { return 0 }
            let subjects = try await database.read(deadline: .after(.seconds(5))) { session throws(MemoryError) in
                try Self.subjects(leases, session)
            }
            return await deliver(leases, subjects)
        } catch {
            reading.failed(error)
            return 0
        }
    }

    /// What a point is made of.
    private struct Source {
        let subject: PointSubject
        var version: Int64 = 1
        var supplied: [Float]?
    }

    private typealias Subjects = [String: [Int64: Source]]

    /// What the leased rows are about, by collection and id, as far as it is still there.
    private static func subjects(
        _ leases: [OutboxRepository.Lease], _ session: any SQLSession
    ) throws(MemoryError) -> Subjects {
        var subjects: Subjects = [:]
        func add(_ source: Source) {
            subjects[source.subject.collection.description, default: [:]][source.subject.id] = source
        }
        let isChunk = { (lease: OutboxRepository.Lease) in lease.collection == VectorCollection.docChunks.description }
        let records = leases.filter { !isChunk($0) }.map(\.key)
        if !records.isEmpty {
            let events = EventRepository(session: session)
            let versions = try events.versions(records.map(\.id))
            let supplied = try events.suppliedEmbeddings(records.map(\.id))
            for record in try events.memories(records) {
                add(
                    Source(
                        subject: .record(record), version: versions[record.id] ?? 1, supplied: supplied[record.id]))
            }
        }
        let chunks = leases.filter(isChunk).map(\.key)
        if !chunks.isEmpty {
            for chunk in try DocumentRepository(session: session).chunks(chunks) {
                add(Source(subject: .chunk(chunk)))
            }
        }
        return subjects
    }

    /// - Returns: how many rows there were; 0 when a store is away, so that the caller pauses.
    private func deliver(_ leases: [OutboxRepository.Lease], _ subjects: Subjects) async -> Int {
        let outcomes = await withTaskGroup(of: (OutboxRepository.Lease, MemoryError?).self) { group in
            for lease in leases {
                group.addTask {
                    let found = subjects[lease.collection]?[lease.key.id]
                    return await (lease, self.deliver(lease, found))
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        var isAway = false
        var delivered: [OutboxRepository.Lease] = []
        for (lease, error) in outcomes {
            if let error {
                failed(lease, error, isStored: false)
                isAway = isAway || error.isRetriable
            } else {
                delivered.append(lease)
            }
        }
        let cacheError = await cache.drop(delivered)
        for lease in delivered { report(lease, cacheError) }
        isAway = isAway || cacheError != nil
        await flush()
        return isAway ? 0 : leases.count
    }

    /// - Returns: nil when the point is as the record is, which may be that there is none.
    private func deliver(
        _ lease: OutboxRepository.Lease, _ source: Source?
    ) async -> MemoryError? {
        let deadline = min(.after(.seconds(20)), lease.end)
        do throws(MemoryError) {
            if let source {
                try await delivery.store(
                    source.subject, version: source.version, supplied: source.supplied, budget: Self.budget,
                    deadline: deadline)
            } else {
                try await delivery.remove(
                    lease.key.id, from: VectorCollection(lease.collection), budget: Self.budget, deadline: deadline)
            }
            return nil
        } catch {
            return error
        }
    }

    /// Forgets what is over: expired memories every few seconds, idempotency keys once an hour. Several gateways may do so
    /// at once.
    private func sweepWhenDue() async {
        if nextExpirySweep.isDue(every: .seconds(5)) {
            let now = surroundings.now
            while await sweep({ session throws(MemoryError) in
                try EventRepository(session: session).deleteExpired(now: now, limit: Self.sweepBatch)
            }) == Self.sweepBatch, !Task.isCancelled {}
            while await sweep({ session throws(MemoryError) in
                try DocumentRepository(session: session).sweepRemnants() ? 1 : 0
            }) > 0, !Task.isCancelled {}
        }
        if nextKeySweep.isDue(every: .seconds(3600)) {
            _ = await sweep { session throws(MemoryError) in try IdempotencyRepository(session: session).sweep() }
        }
    }

    private func sweep(_ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Int) async -> Int {
        do throws(MemoryError) {
            let count = try await database.write(deadline: .after(.seconds(5)), durable: false, body)
            sweeping.succeeded()
            return count
        } catch {
            sweeping.failed(error)
            return 0
        }
    }
}

/// When something is next due.
private final class Timer: Sendable {
    private let surroundings: any Surroundings
    private let next: Mutex<ContinuousClock.Instant>

    init(_ surroundings: any Surroundings) {
        self.surroundings = surroundings
        next = Mutex(surroundings.instant)
    }

    /// Whether it is due now; then it is next due after the interval.
    func isDue(every interval: Duration) -> Bool {
        next.withLock { next in
            let now = surroundings.instant
            guard next <= now else { return false }
            next = now + interval
            return true
        }
    }
}
