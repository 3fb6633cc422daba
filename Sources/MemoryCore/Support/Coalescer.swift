import Synchronization

/// Turns concurrent single calls into batches, naturally: the first call goes at once; while it is in flight others
/// gather, and go together as soon as it is back. There is no timer, so an idle system has no added latency.
///
/// A batch runs in the task of one of its callers. When a batch ends and others wait, the first of them is woken to lead
/// the next, so there is no background task to start, cancel or leak. The work itself must not depend on the leader's
/// cancellation: the stores finish what they began, whoever hangs up.
final class Coalescer<Input: Sendable, Output: Sendable>: Sendable {
    typealias Work = @Sendable ([Input], Deadline) async -> [Result<Output, MemoryError>]

    private typealias Waiter = CheckedContinuation<Wakeup, Never>

    /// Why a waiting call goes on: with its own result, or to run a batch that its own call is the first of.
    private enum Wakeup: Sendable {
        case done(Result<Output, MemoryError>)
        case lead([Call])
    }

    private struct Call: Sendable {
        let input: Input
        let deadline: Deadline
        var waiter: Waiter?
    }

    private struct State {
        var waiting: [Call] = []
        var running = 0
    }

    private let store: MemoryError.Store
    private let maxBatch: Int
    private let maxRunning: Int
    private let maxWaiting: Int
    private let work: Work
    private let state = Mutex(State())

    /// - Parameters:
    ///   - store: who is named in the errors.
    ///   - maxBatch: how many inputs go together at most.
    ///   - maxRunning: how many batches may be in flight at once.
    ///   - maxWaiting: how many calls may wait; one more fails at once with `unavailable`.
    ///   - work: the batch call: one result for each input, in the same order.
    init(
        store: MemoryError.Store, maxBatch: Int, maxRunning: Int, maxWaiting: Int = 4096, work: @escaping Work
    ) {
        self.store = store
        self.maxBatch = maxBatch
        self.maxRunning = maxRunning
        self.maxWaiting = maxWaiting
        self.work = work
    }

    /// How many calls wait for a batch to lead or to join.
    var waitingCount: Int { state.withLock { $0.waiting.count } }

    /// Adds one call to the next batch, and waits for its result.
    func submit(_ input: Input, deadline: Deadline) async throws(MemoryError) -> Output {
        let call = Call(input: input, deadline: deadline, waiter: nil)
        switch enter(call) {
        case .refused: throw .unavailable(store, "too many calls are waiting")
        case .lead: return try await lead([call]).get()
        case .wait: break
        }
        let wakeup = await withCheckedContinuation { (waiter: Waiter) in
            enqueue(call, waiter)
        }
        switch wakeup {
        case .done(let result): return try result.get()
        case .lead(let batch): return try await lead(batch).get()
        }
    }

    private enum Entrance { case lead, wait, refused }

    private func enter(_ call: Call) -> Entrance {
        state.withLock { state in
            if state.running < maxRunning {
                state.running += 1
                return .lead
            }
            return state.waiting.count < maxWaiting ? .wait : .refused
        }
    }

    /// Queues a call; when a batch ended in between, it leads at once, or it would wait for a wake-up that never comes.
    private func enqueue(_ call: Call, _ waiter: Waiter) {
        let leads = state.withLock { state in
            guard state.running >= maxRunning else {
                state.running += 1
                return true
            }
            var waiting = call
            waiting.waiter = waiter
            state.waiting.append(waiting)
            return false
        }
        if leads { waiter.resume(returning: .lead([call])) }
    }

    /// Runs a batch, hands the others their results, passes the lead on; answers the first call's result.
    private func lead(_ batch: [Call]) async -> Result<Output, MemoryError> {
        let live = batch.indices.filter { !batch[$0].deadline.hasPassed }
        var results = [Result<Output, MemoryError>](
            repeating: .failure(.timeout(store, "waited in the queue")), count: batch.count)
        if let latest = live.map({ batch[$0].deadline }).max() {
            let answers = await work(live.map { batch[$0].input }, latest)
            for (position, index) in live.enumerated() where position < answers.count {
                results[index] = answers[position]
            }
        }
        passLead()
        for (call, result) in zip(batch, results).dropFirst() {
            call.waiter?.resume(returning: .done(result))
        }
        return results[0]
    }

    private func passLead() {
        let next: [Call] = state.withLock { state in
            guard !state.waiting.isEmpty else {
                state.running -= 1
                return []
            }
            let batch = Array(state.waiting.prefix(maxBatch))
            state.waiting.removeFirst(batch.count)
            return batch
        }
        next.first?.waiter?.resume(returning: .lead(next))
    }
}
