import Dispatch
import Synchronization

/// PostgreSQL through a pool of libpq connections, each owned by a thread of its own.
///
/// A thread connects when it has its first job, and again after a loss. While the server is away, jobs fail at once and
/// one thread at a time tries again, with backoff, so that an outage costs callers nothing and the server no storm.
final class PostgresDatabase: SQLDatabase {
    private struct State {
        var jobs: PostgresJobs
        var isClosed = false
        var threads = 0
        /// How many threads wait to be woken, each once, and how many were and have not yet come.
        var idle = 0
        var woken = 0
        var closing: [CheckedContinuation<Void, Never>] = []

        /// Whether there is a job for one more thread, which is then to be signalled.
        mutating func wakes() -> Bool {
            guard idle > 0, jobs.startable > woken else { return false }
            (idle, woken) = (idle - 1, woken + 1)
            return true
        }
    }

    let name = MemoryError.Store.postgres
    let parallelWrites = 2

    private let configuration: PostgresConfiguration
    private let gate = ReconnectGate()
    private let cluster: PostgresCluster
    private let state: Mutex<State>
    private let waking = DispatchSemaphore(value: 0)
    private let breaker: CircuitBreaker

    init(_ configuration: PostgresConfiguration, outage: Outage = .silent) throws(MemoryError) {
        self.configuration = configuration
        cluster = PostgresCluster(configuration)
        state = Mutex(State(jobs: PostgresJobs(connections: configuration.connections)))
        breaker = CircuitBreaker(.postgres, outage: outage)
        for _ in 0..<configuration.connections {
            state.withLock { $0.threads += 1 }
            try startThread { [self] in serve() }
        }
    }

    func close() async {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            let (idle, isDone) = state.withLock { state in
                state.isClosed = true
                if state.threads > 0 { state.closing.append(done) }
                defer { (state.woken, state.idle) = (state.woken + state.idle, 0) }
                return (state.idle, state.threads == 0)
            }
            for _ in 0..<idle { waking.signal() }
            if isDone { done.resume() }
        }
    }

    // MARK: The threads

    private func serve() {
        let worker = Worker(configuration, cluster, gate)
        var finished: Lane?
        while let (job, lane) = next(after: finished) {
            job.run(worker)
            finished = lane
        }
        let waiters = state.withLock { state in
            state.threads -= 1
            return state.threads == 0 ? state.closing : []
        }
        for waiter in waiters { waiter.resume() }
    }

    private enum Step {
        case run(PostgresJobs.Job, Lane, wakesAnother: Bool)
        case end
        case sleep
    }

    /// The next job; nil once the pool is closed and has none for this thread.
    private func next(after finished: Lane?) -> (PostgresJobs.Job, Lane)? {
        if let finished { state.withLock { $0.jobs.ended(finished) } }
        while true {
            let step: Step = state.withLock { state in
                if let (job, lane) = state.jobs.take() {
                    // What a full lane held back may go now that another job has gone first.
                    return .run(job, lane, wakesAnother: state.wakes())
                }
                if state.isClosed { return .end }
                state.idle += 1
                return .sleep
            }
            switch step {
            case .run(let job, let lane, let wakesAnother):
                if wakesAnother { waking.signal() }
                return (job, lane)
            case .end: return nil
            case .sleep:
                waking.wait()
                state.withLock { $0.woken -= 1 }
            }
        }
    }

    private func perform<Value: Sendable>(
        _ deadline: Deadline, _ body: @escaping @Sendable (Worker) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        let lane = Lane.current
        return try await PendingCall<Value>.wait(for: .postgres, until: deadline, once: .isHandedOver) { call in
            let job = PostgresJobs.Job(isOver: { call.isOver }) { worker in
                guard call.begin() else { return }
                worker.deadline = deadline
                call.finish(
                    Result { () throws(MemoryError) in
                        guard !deadline.hasPassed else { throw .waited(for: .postgres) }
                        return try body(worker)
                    })
            }
            let (refusal, wakes): (String?, Bool) = state.withLock { state in
                if state.isClosed { return ("the pool is closed", false) }
                guard state.jobs.add(job, lane, limit: configuration.maxWaiting) else {
                    return ("too many calls are waiting", false)
                }
                return (nil, state.wakes())
            }
            if let refusal {
                call.finish(.failure(.unavailable(.postgres, refusal)))
            } else if wakes {
                waking.signal()
            }
            return refusal == nil
        }
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

    /// Whoever may try next may do so at once: this attempt had no chance.
    func undecided() { state.withLock { $0.opensAt = .after(.zero) } }

    func failed() {
        state.withLock { state in
            state.failures += 1
            state.opensAt = .after(backoff.delay(attempt: state.failures))
        }
    }
}
