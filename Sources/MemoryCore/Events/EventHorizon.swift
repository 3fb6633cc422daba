import Synchronization

/// Up to which id the events are settled: whatever will ever be there up to it, is there.
///
/// Ids are given before the commit, so that a lower id may appear after a higher one. A transaction that has taken an id from
/// the sequence holds a lock on the sequence until it has ended, and has it before the id. So each look reads the newest id that
/// can be seen, and then who holds the lock. Whoever did not hold it at the look before has only ids above the newest of that
/// look: this is its floor, and up to the lowest floor all is settled. `Tests/Models/horizon.pml` proves it.
final class EventHorizon: Sendable {
    /// What a look found.
    struct Finding: Sendable, Equatable {
        /// Up to this id nothing is missing.
        let settled: Int64
        /// The newest event that can be seen.
        let newest: Int64
        /// The highest id that was ever given; a cursor beyond it is of another history.
        let given: Int64
    }

    fileprivate struct State {
        /// The newest id of the looks so far; nil before the first.
        var newest: Int64?
        var settled: Int64 = 0
        var given: Int64 = 0
        /// What the ids of each transaction that holds the lock are above.
        var floors: [String: Int64] = [:]
        /// The last finding, how many notifications there had been when it was looked for, and when that was.
        var last: (finding: Finding, count: Int, at: ContinuousClock.Instant)?
    }

    private let memo: Memo
    private let signals: EventSignals
    private let surroundings: any Surroundings
    /// One look at a time, which all who wait for one share.
    private let looks: Coalescer<Void, Finding>

    /// What the looks share.
    private final class Memo: Sendable { let state = Mutex(State()) }

    init(database: any SQLDatabase, signals: EventSignals, surroundings: any Surroundings) {
        self.signals = signals
        self.surroundings = surroundings
        let memo = Memo()
        self.memo = memo
        looks = Coalescer(store: database.name, maxBatch: 4096, maxRunning: 1) { calls, deadline in
            let (count, now) = (signals.count, surroundings.instant)
            let result: Result<Finding, MemoryError>
            do throws(MemoryError) {
                let sight = try await database.read(deadline: deadline) { session throws(MemoryError) in
                    try EventLogRepository(session: session).sight()
                }
                result = .success(
                    memo.state.withLock { state in
                        let finding = state.note(sight)
                        state.last = (finding, count, now)
                        return finding
                    })
            } catch {
                result = .failure(error)
            }
            return calls.map { _ in result }
        }
    }

    /// Looks again, unless somebody did within `age` and nothing was stored here since.
    func look(age: Duration, deadline: Deadline) async throws(MemoryError) -> Finding {
        let (count, now) = (signals.count, surroundings.instant)
        if let last = memo.state.withLock({ $0.last }), last.count == count, now - last.at < age { return last.finding }
        return try await looks.submit((), deadline: deadline)
    }
}

extension EventHorizon.State {
    fileprivate mutating func note(_ sight: EventLogRepository.Sight) -> EventHorizon.Finding {
        // Ids are given again after a restore or on a standby that had not got them all: what was known is of another history.
        if sight.given < given { self = Self() }
        given = sight.given
        let floor = newest ?? 0
        floors = Dictionary(
            sight.holders.map { ($0, floors[$0] ?? floor) }, uniquingKeysWith: { first, _ in first })
        newest = max(newest ?? 0, sight.newest)
        settled = max(settled, min(floors.values.min() ?? sight.newest, sight.newest))
        return EventHorizon.Finding(settled: settled, newest: sight.newest, given: given)
    }
}
