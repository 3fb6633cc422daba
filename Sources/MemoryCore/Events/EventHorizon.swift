import Logging
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

    /// What is known after some looks.
    struct State {
        /// The newest id of the looks so far; nil before the first.
        var newest: Int64?
        var settled: Int64 = 0
        var given: Int64 = 0
        /// What the ids of each transaction that holds the lock are above.
        var floors: [String: Int64] = [:]
        /// Since when something that can be seen waits for a transaction that does not end.
        var heldUpSince: ContinuousClock.Instant?
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

    /// How long events wait for a transaction before that is said.
    private static let patience: Duration = .seconds(10)

    init(
        database: any SQLDatabase, signals: EventSignals, logger: Logger, surroundings: any Surroundings
    ) {
        self.signals = signals
        self.surroundings = surroundings
        let outage = Outage("The event stream", logger: logger, surroundings: surroundings)
        let memo = Memo()
        self.memo = memo
        looks = Coalescer(store: database.name, maxBatch: 4096, maxRunning: 1) { calls, deadline in
            let (count, now) = (signals.count, surroundings.instant)
            let result: Result<Finding, MemoryError>
            do throws(MemoryError) {
                let sight = try await database.read(deadline: deadline) { session throws(MemoryError) in
                    try EventLogRepository(session: session).sight()
                }
                let (finding, wait) = memo.state.withLock { state in
                    let finding = state.note(sight, at: now)
                    state.last = (finding, count, now)
                    return (finding, state.heldUpSince.map { now - $0 } ?? .zero)
                }
                if wait >= Self.patience {
                    outage.failed(Self.heldUp(by: sight.holders))
                } else if wait == .zero {
                    outage.succeeded()
                }
                result = .success(finding)
            } catch {
                result = .failure(error)
            }
            return calls.map { _ in result }
        }
    }

    private static func heldUp(by holders: [EventLogRepository.Holder]) -> MemoryError {
        let processes = holders.map { $0.process ?? "none: it is prepared" }.sorted().joined(separator: ", ")
        return MemoryError(
            .timeout, "Events wait for a transaction that has taken an id and does not end", store: .postgres,
            detail: "process \(processes)", isRetriable: true)
    }

    /// For how long events that can be seen had waited for a transaction at the last look, if anybody follows.
    var heldUp: Duration {
        guard signals.followers > 0 else { return .zero }
        return memo.state.withLock { state in
            guard let last = state.last, let since = state.heldUpSince else { return .zero }
            return last.at - since
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
    mutating func note(
        _ sight: EventLogRepository.Sight, at now: ContinuousClock.Instant
    ) -> EventHorizon.Finding {
        // Ids are given again after a restore or on a standby that had not got them all: what was known is of another history.
        if sight.given < given { self = Self() }
        given = sight.given
        let floor = newest ?? 0
        // A transaction that is prepared goes on under another name: it may be any of those that were there.
        let lowest = min(floor, floors.values.min() ?? floor)
        floors = Dictionary(
            sight.holders.map { ($0.transaction, floors[$0.transaction] ?? ($0.process == nil ? lowest : floor)) },
            uniquingKeysWith: { first, _ in first })
        newest = max(newest ?? 0, sight.newest)
        let settled = max(settled, min(floors.values.min() ?? sight.newest, sight.newest))
        heldUpSince = settled >= sight.newest ? nil : settled > self.settled ? now : heldUpSince ?? now
        self.settled = settled
        return EventHorizon.Finding(settled: settled, newest: sight.newest, given: given)
    }
}
