import Logging
import Synchronization

/// The erasures that short-term memory does not have yet. Sessions are nowhere else, so nobody can tell from them that their
/// client was erased: while an erasure is owed, every gateway refuses them, and whichever reaches short-term memory first
/// removes them.
///
/// A gateway looks twice a second which clients are owed, and serves sessions only while its last look began less than a
/// second ago; else it looks again. An erasure that is owed is answered a second after its commit: by then every gateway
/// knows. While the primary store is away nothing can be erased, and what was known last counts; who has never known
/// anything serves nothing.
final class Erasures: Sendable {
    static let interval: Duration = .milliseconds(500)
    /// For how long a look counts.
    static let life: Duration = .seconds(1)
    /// How long an erasure is ours after its commit, or after it was taken.
    static let lease: Duration = .seconds(40)
    /// Beyond so many, everybody's sessions are refused.
    private static let capacity = 100_000

    private let database: any SQLDatabase
    private let cache: MemoryCache
    private let logger: Logger
    private let surroundings: any Surroundings
    /// How long a look may take.
    private let lookTime: Duration
    /// When the last look began that found an answer, and when the last one began at all.
    private let looks = Mutex<(found: ContinuousClock.Instant?, tried: ContinuousClock.Instant?)>((nil, nil))
    private let flight = SingleFlight<String, Bool>()

    init(
        database: any SQLDatabase, cache: MemoryCache, lookTime: Duration, logger: Logger,
        surroundings: any Surroundings
    ) {
        self.lookTime = lookTime
        self.database = database
        self.cache = cache
        self.logger = logger
        self.surroundings = surroundings
    }

    /// Lets a call to a client's sessions through.
    ///
    /// - Throws: ``MemoryError`` with `unavailable` while an erasure of the client is owed.
    func admit(_ clientID: Int) async throws(MemoryError) {
        let (found, tried) = looks.withLock { $0 }
        let oldest = surroundings.instant - Self.life
        let isFresh = (found ?? oldest) > oldest
        guard !isFresh || cache.isErased(clientID) else { return }
        // It may have been done since; and who has just tried in vain does not make everyone wait.
        if found == nil || isFresh || (tried ?? oldest) <= oldest {
            do throws(MemoryError) {
                try await look()
            } catch {
                guard found != nil else { throw error }
            }
        }
        guard cache.isErased(clientID) else { return }
        var refusal = MemoryError.unavailable(cache.store.name, "an erasure of this client is owed")
        refusal.retryAfter = .seconds(1)
        throw refusal
    }

    /// Finds out which clients are owed.
    func look() async throws(MemoryError) {
        _ = try await flight.run("look") { () throws(MemoryError) in
            let start = surroundings.instant
            looks.withLock { $0.tried = start }
            let changes = cache.erasureChanges
            let owed = try await database.read(deadline: .after(lookTime)) { session throws(MemoryError) in
                try ErasureRepository(session: session).owed(limit: Self.capacity)
            }
            cache.setErased(owed.count < Self.capacity ? owed : nil, asOf: changes)
            looks.withLock { $0.found = start }
            return true
        }
    }

    /// Erases a client from short-term memory, under a lease.
    ///
    /// - Returns: how many values there were.
    func erase(_ lease: ErasureRepository.Lease, deadline: Deadline) async throws(MemoryError) -> Int {
        do throws(MemoryError) {
            let count = try await cache.erase(lease.clientID, deadline: deadline)
            try await database.write(deadline: deadline) { session throws(MemoryError) in
                try ErasureRepository(session: session).complete(lease)
            }
            cache.noteErasure(of: lease.clientID, isOwed: false)
            return count
        } catch {
            // Whoever reaches short-term memory should not wait for the end of our lease.
            try? await database.write(deadline: .after(.seconds(1)), durable: false) { session throws(MemoryError) in
                try ErasureRepository(session: session).putBack(lease)
            }
            throw error
        }
    }

    /// Erases whoever is owed and nobody works on.
    func deliver() async throws(MemoryError) {
        try await look()
        guard cache.hasErased, await cache.canWrite() else { return }
        while !Task.isCancelled {
            let taken = try await database.write(deadline: .after(.seconds(5))) { session throws(MemoryError) in
                try ErasureRepository(session: session).claim(lease: Self.lease)
            }
            guard let taken else { return }
            _ = try await erase(taken, deadline: .after(.seconds(20)))
            logger.notice(
                "Short-term memory has followed an erasure", metadata: [LogKey.client: "\(taken.clientID)"])
        }
    }
}
