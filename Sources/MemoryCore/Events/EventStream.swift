import Logging
import Synchronization

/// Events as they are stored, oldest first: each once, none skipped. About once a second without an event there is an empty list.
///
/// ```swift
/// for try await events in try await memory.eventStream(after: last) { … }
/// ```
///
/// A stream is a place among those who follow; it is given back when nobody holds the stream any more. To be iterated once. It
/// ends with ``end()`` and with the task that iterates, and fails when the primary store does.
public final class EventStream: AsyncSequence, Sendable {
    /// Some events, or none after a quiet second.
    public typealias Element = [Event]
    /// What ends it when the primary store fails.
    public typealias Failure = MemoryError

    fileprivate let memory: Memory
    fileprivate let filter: EventFilter
    fileprivate let start: Int64
    /// Events after the start that were there before, when no cursor was given.
    fileprivate let known: Set<Int64>
    private let hasEnded = Atomic(false)

    /// How far before the newest event a transaction that is still open may have begun to count as new.
    private static let lookback: Int64 = 1000

    init(_ memory: Memory, _ filter: EventFilter, after: Int64?) async throws(MemoryError) {
        try memory.signals.join()
        do throws(MemoryError) {
            let finding = try await memory.horizon.look(
                age: .zero, deadline: .after(memory.configuration.budgets.recall))
            (start, known) =
                if let after {
                    (Self.rebased(after, memory, finding), [])
                } else {
                    try await Self.fromNow(memory, finding)
                }
        } catch {
            memory.signals.leave()
            throw error
        }
        self.memory = memory
        self.filter = filter
    }

    deinit { memory.signals.leave() }

    /// Where the events that are stored from now on begin: after what is settled, but for those that can be seen already.
    private static func fromNow(
        _ memory: Memory, _ finding: EventHorizon.Finding
    ) async throws(MemoryError) -> (start: Int64, known: Set<Int64>) {
        let start = Swift.max(finding.settled, finding.newest - lookback)
        guard start < finding.newest else { return (start, []) }
        let ids = try await memory.read { session throws(MemoryError) in
            try EventLogRepository(session: session).ids(after: start, upTo: finding.newest)
        }
        return (start, Set(ids))
    }

    /// A cursor beyond every id that was given is of another history, such as one before a restore: it goes on with what is
    /// settled in this one.
    fileprivate static func rebased(_ position: Int64, _ memory: Memory, _ finding: EventHorizon.Finding) -> Int64 {
        guard position > finding.given else { return position }
        memory.logger.debug("A stream's cursor is beyond the newest event, and goes on from there")
        return finding.settled
    }

    /// Ends the stream, whoever iterates it.
    public func end() {
        hasEnded.store(true, ordering: .releasing)
        memory.signals.notify()
    }

    fileprivate var isOver: Bool { hasEnded.load(ordering: .acquiring) || Task.isCancelled }

    /// The one who reads and waits.
    public func makeAsyncIterator() -> Iterator { Iterator(self) }

    /// Reads what is settled, hands it out, and waits for more.
    public struct Iterator: AsyncIteratorProtocol {
        /// What ends it when the primary store fails.
        public typealias Failure = MemoryError

        private let stream: EventStream
        private let memory: Memory
        private var position: Int64
        /// What the last look found, and how many notifications there had been.
        private var last: (finding: EventHorizon.Finding, count: Int, at: ContinuousClock.Instant)?
        private var lastWord: ContinuousClock.Instant?
        private var pause = Self.longestPause

        /// What other programs write is found by looking. While something that can be seen is not settled, that is done sooner, and
        /// then less and less often.
        private static let longestPause: Duration = .seconds(1)
        private static let shortestPause: Duration = .milliseconds(25)
        /// Notifications that come faster than this are taken together.
        private static let gathering: Duration = .milliseconds(20)
        /// As many as fit into memory when each is as large as it may be, for some followers at once.
        private static let batch = 32
        /// How many ids one statement looks through: a filter may fit few of them.
        private static let span = 20_000

        fileprivate init(_ stream: EventStream) {
            self.stream = stream
            memory = stream.memory
            position = stream.start
        }

        /// The next events; an empty list at first, and after a quiet second.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(MemoryError) -> [Event]? {
            guard lastWord != nil else { return said([]) }
            while !stream.isOver {
                if let finding = last?.finding, position < finding.settled {
                    let events = try await read(upTo: finding.settled)
                    if !events.isEmpty || isDue { return said(events) }
                } else if last != nil, isDue {
                    return said([])
                } else {
                    await wait()
                    if !stream.isOver { try await look() }
                }
            }
            return nil
        }

        private mutating func said(_ events: [Event]) -> [Event] {
            lastWord = memory.surroundings.instant
            return events
        }

        private var isDue: Bool {
            lastWord.map { memory.surroundings.instant - $0 >= Self.longestPause } ?? true
        }

        /// Waits until it is worth looking again; the first time there is nothing to wait for.
        private func wait() async {
            guard let last else { return }
            try? await memory.signals.wait(beyond: last.count, within: pause)
            let rest = Self.gathering - (memory.surroundings.instant - last.at)
            if rest > .zero, !stream.isOver { try? await memory.surroundings.sleep(for: rest) }
        }

        private mutating func look() async throws(MemoryError) {
            let (count, now) = (memory.signals.count, memory.surroundings.instant)
            let deadline = Deadline.after(memory.configuration.budgets.recall)
            let finding = try await memory.horizon.look(age: pause / 2, deadline: deadline)
            position = EventStream.rebased(position, memory, finding)
            if finding.settled >= finding.newest {
                pause = Self.longestPause
            } else {
                let hasMoved = last.map { $0.finding.settled < finding.settled } ?? true
                let isFirst = last.map { $0.finding.settled >= $0.finding.newest } ?? true
                pause = hasMoved || isFirst ? Self.shortestPause : Swift.min(pause * 2, Self.longestPause)
            }
            last = (finding, count, now)
        }

        /// The next events that fit the filter; moves the position over what was looked through.
        private mutating func read(upTo settled: Int64) async throws(MemoryError) -> [Event] {
            let (start, end) = (position, Swift.min(settled, position.advanced(by: Self.span)))
            let rows = try await memory.read { [filter = stream.filter] session throws(MemoryError) in
                try EventLogRepository(session: session).after(start, upTo: end, filter, limit: Self.batch)
            }
            position = rows.count == Self.batch ? rows.last?.id ?? end : end
            return stream.known.isEmpty ? rows : rows.filter { !stream.known.contains($0.id) }
        }
    }
}
