import Synchronization

/// A few threads for work that takes longer than a millisecond: parsing and cutting large texts, making many vectors. On the
/// cooperative pool, which has a thread for each core, it would hold up everyone.
///
/// The work waits in a bounded queue; the threads come with the work and end with it.
package final class WorkThreads: Sendable {
    /// Those of this process.
    package static let shared = WorkThreads(count: 2, maxWaiting: 256)

    private struct State {
        var waiting: [@Sendable () -> Void] = []
        var running = 0
    }

    private let count: Int
    private let maxWaiting: Int
    private let state = Mutex(State())

    init(count: Int, maxWaiting: Int) {
        self.count = count
        self.maxWaiting = maxWaiting
    }

    /// How many jobs wait for a thread.
    var waitingCount: Int { state.withLock { $0.waiting.count } }

    /// Runs `body` on one of the threads, and waits for what it gives.
    ///
    /// - Throws: ``MemoryError`` with `overloaded` when too much waits, or the deadline passed before its turn came.
    package func run<Value: Sendable>(
        deadline: Deadline, _ body: @escaping @Sendable () throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        let result = await withCheckedContinuation { (waiter: CheckedContinuation<Result<Value, MemoryError>, Never>) in
            let error = add {
                guard !deadline.hasPassed else { return waiter.resume(returning: .failure(Self.tooMuch)) }
                waiter.resume(returning: Result { () throws(MemoryError) in try body() })
            }
            if let error { waiter.resume(returning: .failure(error)) }
        }
        return try result.get()
    }

    private static let tooMuch = MemoryError.overloaded("Too many large requests at once, please retry")

    /// Queues a job, and starts a thread when there may be one more; an error when the job cannot be queued.
    private func add(_ job: @escaping @Sendable () -> Void) -> MemoryError? {
        let startsThread: Bool? = state.withLock { state in
            guard state.waiting.count < maxWaiting else { return nil }
            state.waiting.append(job)
            guard state.running < count else { return false }
            state.running += 1
            return true
        }
        guard let startsThread else { return Self.tooMuch }
        guard startsThread else { return nil }
        do throws(MemoryError) {
            try startThread { self.work() }
        } catch {
            // Where others run they will come to it; where none does, nobody would.
            work()
        }
        return nil
    }

    /// Does what waits until nothing does.
    private func work() {
        while let job = next() { job() }
    }

    private func next() -> (@Sendable () -> Void)? {
        state.withLock { state in
            guard !state.waiting.isEmpty else {
                state.running -= 1
                return nil
            }
            return state.waiting.removeFirst()
        }
    }
}
