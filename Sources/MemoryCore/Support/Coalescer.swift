import Synchronization

/// Turns concurrent single calls into batches, naturally: the first call goes at once; while it is in flight others
/// gather, and go together as soon as it is back. There is no timer, so an idle system has no added latency.
///
/// A batch runs in the task of the caller with the latest deadline, so that it binds nobody: each of the others goes on at
/// its own deadline, while the batch goes on for the rest. When a batch ends and others wait, one of them is woken to lead
/// the next, so there is no background task to start, cancel or leak. The work itself must not depend on the leader's
/// cancellation: the stores finish what they began, whoever hangs up.
///
/// Each ``Lane`` has batches of its own.
final class Coalescer<Input: Sendable, Output: Sendable>: Sendable {
    typealias Work = @Sendable ([Input], Deadline) async -> [Result<Output, MemoryError>]

    private typealias Waiter = PendingCall<Wakeup>

    /// Why a waiting call goes on: with its own result, or to run a batch that its own call is part of.
    private enum Wakeup: Sendable {
        case done(Output)
        case lead([Call], place: Int)
    }

    private struct Call: Sendable {
        let input: Input
        let deadline: Deadline
        var waiter: Waiter?
    }

    private struct Queue {
        var waiting: [Call] = []
        var running = 0
    }

    private let store: MemoryError.Store
    private let maxBatch: Int
    private let maxRunning: Int
    private let maxWaiting: Int
    private let changes: Bool
    private let abandoned: @Sendable (Input, Output) -> Void
    private let work: Work
    private let queues = Mutex([Queue](repeating: Queue(), count: Lane.allCases.count))

    /// - Parameters:
    ///   - store: who is named in the errors.
    ///   - maxBatch: how many inputs go together at most.
    ///   - maxRunning: how many batches may be in flight at once.
    ///   - maxWaiting: how many calls may wait; one more fails at once with `unavailable`.
    ///   - changes: whether a call that ends at its deadline, while its batch goes on, may have changed something.
    ///   - abandoned: is told of what was done for a call whose time was over before.
    ///   - work: the batch call: one result for each input, in the same order.
    init(
        store: MemoryError.Store, maxBatch: Int, maxRunning: Int, maxWaiting: Int = 4096, changes: Bool = false,
        abandoned: @escaping @Sendable (Input, Output) -> Void = { _, _ in }, work: @escaping Work
    ) {
        self.store = store
        self.maxBatch = maxBatch
        self.maxRunning = maxRunning
        self.maxWaiting = maxWaiting
        self.changes = changes
        self.abandoned = abandoned
        self.work = work
    }

    /// How many calls wait for a batch to lead or to join.
    var waitingCount: Int { queues.withLock { $0.reduce(0) { $0 + $1.waiting.count { $0.waiter?.isOver == false } } } }

    /// Adds one call to the next batch, and waits for its result, until its deadline.
    func submit(_ input: Input, deadline: Deadline) async throws(MemoryError) -> Output {
        let lane = Lane.current
        let call = Call(input: input, deadline: deadline, waiter: nil)
        switch enter(lane) {
        case .refused: throw .unavailable(store, "too many calls are waiting")
        case .lead: return try await lead([call], 0, lane).get()
        case .wait: break
        }
        let wakeup = try await Waiter.wait(for: store, until: deadline, once: changes ? .endsUnknown : .ends) {
            enqueue(call, $0, lane)
        }
        switch wakeup {
        case .done(let output): return output
        case .lead(let batch, let place): return try await lead(batch, place, lane).get()
        }
    }

    private enum Entrance { case lead, wait, refused }

    private func enter(_ lane: Lane) -> Entrance {
        queues.withLock { queues in
            if queues[lane.rawValue].running < maxRunning {
                queues[lane.rawValue].running += 1
                return .lead
            }
            if queues[lane.rawValue].waiting.count >= maxWaiting {
                queues[lane.rawValue].waiting.removeAll { $0.waiter?.isOver ?? true }
            }
            return queues[lane.rawValue].waiting.count < maxWaiting ? .wait : .refused
        }
    }

    /// Queues a call; when a batch ended in between, it leads at once, or it would wait for a wake-up that never comes.
    ///
    /// - Returns: whether it waits.
    private func enqueue(_ call: Call, _ waiter: Waiter, _ lane: Lane) -> Bool {
        let waits = queues.withLock { queues in
            guard queues[lane.rawValue].running >= maxRunning else {
                queues[lane.rawValue].running += 1
                return false
            }
            var waiting = call
            waiting.waiter = waiter
            queues[lane.rawValue].waiting.append(waiting)
            return true
        }
        if !waits { waiter.finish(.success(.lead([call], place: 0))) }
        return waits
    }

    /// Runs a batch, hands the others their results, passes the lead on; answers the leader's own result.
    private func lead(_ batch: [Call], _ place: Int, _ lane: Lane) async -> Result<Output, MemoryError> {
        let live = batch.indices.filter { !batch[$0].deadline.hasPassed }
        var results = [Result<Output, MemoryError>](repeating: .failure(.waited(for: store)), count: batch.count)
        if !live.isEmpty {
            let answers = await work(live.map { batch[$0].input }, batch[place].deadline)
            for (position, index) in live.enumerated() where position < answers.count {
                results[index] = answers[position]
            }
        }
        passLead(lane)
        for (index, call) in batch.enumerated() where index != place {
            let isHeard = call.waiter?.finish(results[index].map { .done($0) }) ?? true
            if !isHeard, case .success(let output) = results[index] { abandoned(call.input, output) }
        }
        return results[place]
    }

    /// Wakes one of those who wait to lead the next batch. Calls whose time is over are left out.
    private func passLead(_ lane: Lane) {
        while true {
            let next: [Call] = queues.withLock { queues in
                guard !queues[lane.rawValue].waiting.isEmpty else {
                    queues[lane.rawValue].running -= 1
                    return []
                }
                let batch = Array(queues[lane.rawValue].waiting.prefix(maxBatch))
                queues[lane.rawValue].waiting.removeFirst(batch.count)
                return batch
            }
            guard !next.isEmpty else { return }
            let batch = next.filter { $0.waiter?.begin() ?? false }
            // The latest deadline leads; should that caller go this very moment, the next one does.
            for place in batch.indices.sorted(by: { batch[$1].deadline < batch[$0].deadline })
            where batch[place].waiter?.finish(.success(.lead(batch, place: place))) == true {
                return
            }
        }
    }
}
