import Dispatch
import Synchronization

/// One connection on a thread of its own. What comes while replies are owed is sent in the meantime, and goes together.
/// While there is no connection, commands fail at once: a cache is not worth waiting for.
final class ValkeyConnection: Sendable {
    /// Replies, with the history of the server that gave them.
    struct Replies: Sendable {
        let replies: [ValkeyReply]
        let epoch: UInt64
    }

    /// Commands that go together, and who waits for their replies.
    struct Call: Sendable {
        let commands: [ValkeyCommand]
        let load: ValkeyLoad
        let deadline: Deadline
        let done: CheckedContinuation<Result<Replies, MemoryError>, Never>
    }

    private struct State {
        var calls: [Call] = []
        /// What waits to be sent or to be answered.
        var waiting = ValkeyLoad()
        var isConnected = false
        var epoch: UInt64?
        var isClosed = false
        /// Whether the thread waits to be woken, once.
        var isAsleep = false
        var closing: [CheckedContinuation<Void, Never>] = []
        /// Callers that wait for the first connection attempt to end, however it ends.
        var starting: [CheckedContinuation<Void, Never>]? = []
    }

    /// Past so many bytes that wait, the server does not take what it is sent.
    private static let maxBytes = 8 << 20

    private let configuration: ValkeyConfiguration
    private let outage: Outage
    private let state = Mutex(State())
    private let waking = DispatchSemaphore(value: 0)
    private let late = Atomic(false)

    init(_ configuration: ValkeyConfiguration, outage: Outage = .silent) throws(MemoryError) {
        self.configuration = configuration
        self.outage = outage
        try startThread { [self] in serve() }
    }

    /// Waits until the first attempt to connect has ended.
    func firstAttempt() async {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            let isOver = state.withLock { state in
                state.starting?.append(done)
                return state.starting == nil
            }
            if isOver { done.resume() }
        }
    }

    /// The driver code of a refusal because there is no connection: nothing was sent.
    static let notConnected = "not connected"

    /// Whether a reply is owed that has not come in its time: whoever has little time need not try.
    var isLate: Bool { late.load(ordering: .relaxed) }

    /// Sends commands as one part of what is on the way.
    func run(_ commands: [ValkeyCommand], deadline: Deadline) async throws(MemoryError) -> Replies {
        let result = await withCheckedContinuation {
            (done: CheckedContinuation<Result<Replies, MemoryError>, Never>) in
            let load = ValkeyLoad(commands)
            let call = Call(commands: commands, load: load, deadline: deadline, done: done)
            let (refusal, wakes): (String?, Bool) = state.withLock { state in
                if !state.isConnected || state.isClosed { return (Self.notConnected, false) }
                if state.waiting.commands + load.commands > configuration.maxWaiting
                    || (state.waiting.bytes > 0 && state.waiting.bytes + load.bytes > Self.maxBytes)
                {
                    return ("too many commands wait", false)
                }
                state.waiting.add(load)
                state.calls.append(call)
                defer { state.isAsleep = false }
                return (nil, state.isAsleep)
            }
            if let refusal {
                let error = MemoryError.unavailable(.valkey, refusal, driverCode: refusal)
                if refusal == Self.notConnected { outage.failed(error) }
                done.resume(returning: .failure(error))
            } else if wakes {
                waking.signal()
            }
        }
        return try result.get()
    }

    func close() async {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            let wakes = state.withLock { state in
                state.isClosed = true
                state.closing.append(done)
                defer { state.isAsleep = false }
                return state.isAsleep
            }
            if wakes { waking.signal() }
        }
    }

    // MARK: The thread

    private func serve() {
        let backoff = Backoff(base: .milliseconds(50), cap: .seconds(1))
        var failures = 0
        while !isClosed {
            do {
                let handle = try ValkeyHandle.open(
                    host: configuration.host, port: configuration.port,
                    deadline: .after(configuration.connectTimeout))
                let identity = try handshake(handle)
                outage.succeeded()
                failures = 0
                setConnected(true, epoch: identity.epoch)
                endStart()
                try pipeline(on: handle, identity)
            } catch {
                outage.failed(error)
                failures += 1
                setConnected(false, error)
                endStart()
                sleep(atMost: backoff.delay(attempt: failures))
            }
        }
        setConnected(false, .unavailable(.valkey, "closed"))
        for waiter in state.withLock({ $0.closing }) { waiter.resume() }
    }

    /// The history of the server that the connection leads to; nil while there is none.
    var epoch: UInt64? { state.withLock { $0.epoch } }

    private var isClosed: Bool { state.withLock { $0.isClosed && $0.calls.isEmpty } }

    /// Authenticates, selects the database, and learns who the server is.
    private func handshake(_ handle: borrowing ValkeyHandle) throws(MemoryError) -> ValkeyIdentity {
        var commands = configuration.authentication
        if configuration.database != 0 { commands.append(["SELECT", String(configuration.database)]) }
        commands.append(["PING"])
        let replies = try handle.run(
            commands.map { $0.map { Array($0.utf8) } } + ValkeyIdentity.questions,
            deadline: .after(configuration.connectTimeout))
        for case .error(let message) in replies.prefix(commands.count) {
            throw .unavailable(.valkey, message, driverCode: message.errorClass)
        }
        return try ValkeyIdentity(replies.dropFirst(commands.count))
    }

    /// Sends whatever has gathered and reads what comes, until the connection fails or is closed.
    private func pipeline(on handle: borrowing ValkeyHandle, _ identity: ValkeyIdentity) throws(MemoryError) {
        var owed = ValkeyPipeline(identity)
        do {
            while let calls = next(settled: owed.takeSettled(), isIdle: owed.isEmpty) {
                try owed.send(calls, on: handle)
                guard !owed.isEmpty else { continue }
                // Who comes meanwhile is looked after when it returns, and so are those whose time is over.
                let isHeard = try handle.exchange(within: 5)
                let epoch = owed.identity.epoch
                if isHeard, try owed.receive(from: handle) { late.store(false, ordering: .relaxed) }
                if owed.identity.epoch != epoch { state.withLock { $0.epoch = owed.identity.epoch } }
                if !isHeard, try owed.expire() { late.store(true, ordering: .relaxed) }
            }
        } catch {
            owed.fail(error)
            throw error
        }
    }

    /// What has gathered; where nothing is owed, waits for it. Nil once the connection is closed and nobody waits.
    private func next(settled: ValkeyLoad, isIdle: Bool) -> [Call]? {
        var settled = settled
        while true {
            let (calls, isOver): ([Call]?, Bool) = state.withLock { state in
                state.waiting.subtract(settled)
                settled = ValkeyLoad()
                if !state.calls.isEmpty || !isIdle {
                    defer { state.calls = [] }
                    return (state.calls, false)
                }
                state.isAsleep = !state.isClosed
                return (nil, state.isClosed)
            }
            if let calls { return calls }
            if isOver { return nil }
            waking.wait()
        }
    }

    /// Waits out a pause between two attempts; being closed ends it.
    private func sleep(atMost pause: Duration) {
        let sleeps = state.withLock { state in
            state.isAsleep = !state.isClosed
            return state.isAsleep
        }
        guard sleeps, waking.wait(timeout: .now() + pause.milliseconds / 1000) == .timedOut else { return }
        let isCalled = state.withLock { state in
            defer { state.isAsleep = false }
            return !state.isAsleep
        }
        // Whoever took the flag signals: each signal is waited for once.
        if isCalled { waking.wait() }
    }

    private func endStart() {
        let waiters = state.withLock { state in
            defer { state.starting = nil }
            return state.starting ?? []
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Notes whether commands can be taken; when not, those that wait fail.
    private func setConnected(_ isConnected: Bool, _ error: MemoryError? = nil, epoch: UInt64? = nil) {
        late.store(false, ordering: .relaxed)
        let calls = state.withLock { state -> [Call] in
            state.isConnected = isConnected
            state.epoch = epoch
            guard !isConnected else { return [] }
            defer { (state.calls, state.waiting) = ([], ValkeyLoad()) }
            return state.calls
        }
        for call in calls { call.done.resume(returning: .failure(error ?? .unavailable(.valkey, "not connected"))) }
    }
}

extension String {
    /// The first word of a server's error: `WRONGPASS`, `OOM`, `READONLY`, … .
    var errorClass: String { String(prefix { $0 != " " }) }
}
