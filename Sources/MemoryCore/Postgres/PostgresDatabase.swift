import Dispatch
import Synchronization

/// PostgreSQL through a pool of libpq connections, each owned by a thread of its own.
///
/// A thread connects when it has its first job, and again after a loss. While the server is away, jobs fail at once and
/// one thread at a time tries again, with backoff, so that an outage costs callers nothing and the server no storm.
final class PostgresDatabase: SQLDatabase {
    private struct Job: Sendable {
        let deadline: Deadline
        /// Runs the job with a worker, or fails it when there is none.
        let run: @Sendable (Worker) -> Void
        let fail: @Sendable (MemoryError) -> Void
    }

    private struct State {
        var jobs: [Job] = []
        var head = 0
        var isClosed = false
        var threads = 0
        var closing: [CheckedContinuation<Void, Never>] = []
    }

    let name = MemoryError.Store.postgres
    let parallelWrites = 2

    private let configuration: PostgresConfiguration
    private let gate = ReconnectGate()
    private let cluster: PostgresCluster
    private let state = Mutex(State())
    private let available = DispatchSemaphore(value: 0)
    private let breaker: CircuitBreaker

    init(_ configuration: PostgresConfiguration, outage: Outage = .silent) throws(MemoryError) {
        self.configuration = configuration
        cluster = PostgresCluster(configuration)
        breaker = CircuitBreaker(.postgres, outage: outage)
        for _ in 0..<configuration.connections {
            state.withLock { $0.threads += 1 }
            try startThread { [self] in serve() }
        }
    }

    func close() async {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            let (threads, isDone) = state.withLock { state in
                state.isClosed = true
                if state.threads > 0 { state.closing.append(done) }
                return (state.threads, state.threads == 0)
            }
            for _ in 0..<threads { available.signal() }
            if isDone { done.resume() }
        }
    }

    // MARK: The threads

    private func serve() {
        let worker = Worker(configuration, cluster, gate)
        while let job = next() {
            if job.deadline.hasPassed {
                job.fail(.timeout(.postgres, "waited for a connection"))
            } else {
                job.run(worker)
            }
        }
        let waiters = state.withLock { state in
            state.threads -= 1
            return state.threads == 0 ? state.closing : []
        }
        for waiter in waiters { waiter.resume() }
    }

    /// The next job; nil once the pool is closed and empty.
    private func next() -> Job? {
        while true {
            available.wait()
            let (job, isClosed) = state.withLock { state -> (Job?, Bool) in
                guard state.head < state.jobs.count else { return (nil, state.isClosed) }
                let job = state.jobs[state.head]
                state.head += 1
                if state.head == state.jobs.count || state.head > 512 {
                    state.jobs.removeFirst(state.head)
                    state.head = 0
                }
                return (job, false)
            }
            if let job { return job }
            if isClosed { return nil }
        }
    }

    private func perform<Value: Sendable>(
        _ deadline: Deadline, _ body: @escaping @Sendable (Worker) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        let result = await withCheckedContinuation { (done: CheckedContinuation<Result<Value, MemoryError>, Never>) in
            let job = Job(deadline: deadline) { worker in
                worker.deadline = deadline
                done.resume(returning: Result { () throws(MemoryError) in try body(worker) })
            } fail: { error in
                done.resume(returning: .failure(error))
            }
            let refusal: String? = state.withLock { state in
                if state.isClosed { return "the pool is closed" }
                if state.jobs.count - state.head >= configuration.maxWaiting { return "too many calls are waiting" }
                state.jobs.append(job)
                return nil
            }
            if let refusal {
                done.resume(returning: .failure(.unavailable(.postgres, refusal)))
            } else {
                available.signal()
            }
        }
        return try result.get()
    }

    // MARK: SQLDatabase

    var lineage: UInt64? { cluster.lineage }

    func checkWritable(deadline: Deadline) async throws(MemoryError) {
        try await read(deadline: deadline) { session throws(MemoryError) in
            let setting = try session.query("SELECT current_setting('transaction_read_only')", []).first
            guard setting?.optionalText(0) == "on" else { return }
            throw .readOnly(.postgres, "a standby, or default_transaction_read_only is on")
        }
    }

    func read<Value: Sendable>(
        deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        try await breaker.run(writing: false) { () throws(MemoryError) in
            try await perform(deadline) { worker throws(MemoryError) in try worker.read(body) }
        }
    }

    func write<Value: Sendable>(
        deadline: Deadline, durable: Bool, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        do throws(MemoryError) {
            return try await breaker.run { () throws(MemoryError) in
                try await perform(deadline) { worker throws(MemoryError) in
                    try worker.write(durable: durable, body)
                }
            }
        } catch {
            var error = error
            // Whatever failed before a worker had it, such as a full queue or an open breaker, stored nothing.
            error.outcome = error.outcome ?? .notStored
            throw error
        }
    }
}

/// Decides who may try to connect, and when: after a failure nobody may until the backoff has passed.
final class ReconnectGate: Sendable {
    private struct State {
        var failures = 0
        var opensAt = Deadline.after(.zero)
    }

    private let backoff: Backoff
    private let state = Mutex(State())

    init(backoff: Backoff = Backoff(base: .milliseconds(50), cap: .seconds(1))) { self.backoff = backoff }

    /// Whether to try now. The one who may closes the gate for the others until it reports.
    func tryEnter() -> Bool {
        state.withLock { state in
            guard state.failures == 0 || state.opensAt.hasPassed else { return false }
            if state.failures > 0 { state.opensAt = .after(backoff.cap) }
            return true
        }
    }

    func succeeded() { state.withLock { $0.failures = 0 } }

    func failed() {
        state.withLock { state in
            state.failures += 1
            state.opensAt = .after(backoff.delay(attempt: state.failures))
        }
    }
}
