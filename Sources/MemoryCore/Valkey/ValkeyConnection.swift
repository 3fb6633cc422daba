import Dispatch
import Synchronization

/// One connection on a thread of its own. Commands that come while others are in flight go together in the next
/// pipeline. While there is no connection, commands fail at once: a cache is not worth waiting for.
final class ValkeyConnection: Sendable {
    /// Replies, with the history of the server that gave them.
    struct Replies: Sendable {
        let replies: [ValkeyReply]
        let epoch: UInt64
    }

    private struct Call: Sendable {
        let commands: [ValkeyCommand]
        let deadline: Deadline
        let done: CheckedContinuation<Result<Replies, MemoryError>, Never>
    }

    private struct State {
        var calls: [Call] = []
        var waitingCommands = 0
        var isConnected = false
        var isClosed = false
        var closing: [CheckedContinuation<Void, Never>] = []
        /// Callers that wait for the first connection attempt to end, however it ends.
        var starting: [CheckedContinuation<Void, Never>]? = []
    }

    private let configuration: ValkeyConfiguration
    private let outage: Outage
    private let state = Mutex(State())
    private let available = DispatchSemaphore(value: 0)

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

    /// Sends commands as one part of a pipeline.
    func run(_ commands: [ValkeyCommand], deadline: Deadline) async throws(MemoryError) -> Replies {
        let result = await withCheckedContinuation {
            (done: CheckedContinuation<Result<Replies, MemoryError>, Never>) in
            let refusal: String? = state.withLock { state in
                if !state.isConnected || state.isClosed { return Self.notConnected }
                if state.waitingCommands + commands.count > configuration.maxWaiting { return "too many commands wait" }
                state.waitingCommands += commands.count
                state.calls.append(Call(commands: commands, deadline: deadline, done: done))
                return nil
            }
            if let refusal {
                let error = MemoryError.unavailable(.valkey, refusal, driverCode: refusal)
                if refusal == Self.notConnected { outage.failed(error) }
                done.resume(returning: .failure(error))
            } else {
                available.signal()
            }
        }
        return try result.get()
    }

    func close() async {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            state.withLock { state in
                state.isClosed = true
                state.closing.append(done)
            }
            available.signal()
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
                var identity = try handshake(handle)
                outage.succeeded()
                failures = 0
                setConnected(true)
                endStart()
                try pipeline(on: handle, &identity)
            } catch {
                outage.failed(error)
                failures += 1
                setConnected(false, error)
                endStart()
                _ = available.wait(timeout: .now() + backoff.delay(attempt: failures).milliseconds / 1000)
            }
        }
        setConnected(false, .unavailable(.valkey, "closed"))
        for waiter in state.withLock({ $0.closing }) { waiter.resume() }
    }

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

    /// Sends whatever has gathered, until the connection fails or is closed.
    private func pipeline(
        on handle: borrowing ValkeyHandle, _ identity: inout ValkeyIdentity
    ) throws(MemoryError) {
        while !isClosed {
            available.wait()
            let calls = state.withLock { state in
                defer { (state.calls, state.waitingCommands) = ([], 0) }
                return state.calls
            }
            let live = calls.filter { call in
                guard call.deadline.hasPassed else { return true }
                call.done.resume(returning: .failure(.timeout(.valkey, "waited for a connection")))
                return false
            }
            guard let deadline = live.map(\.deadline).max() else { continue }
            do {
                let question = identity.question
                let replies = try handle.run(
                    (question.map { [$0] } ?? []) + live.flatMap(\.commands), deadline: deadline)
                var position = 0
                if question != nil {
                    try identity.hear(replies[0])
                    position = 1
                }
                for call in live {
                    let part = Array(replies[position..<position + call.commands.count])
                    position += call.commands.count
                    call.done.resume(returning: .success(Replies(replies: part, epoch: identity.epoch)))
                }
            } catch {
                for call in live { call.done.resume(returning: .failure(error)) }
                throw error
            }
        }
    }

    private func endStart() {
        let waiters = state.withLock { state in
            defer { state.starting = nil }
            return state.starting ?? []
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Notes whether commands can be taken; when not, those that wait fail.
    private func setConnected(_ isConnected: Bool, _ error: MemoryError? = nil) {
        let calls = state.withLock { state -> [Call] in
            state.isConnected = isConnected
            guard !isConnected else { return [] }
            defer { (state.calls, state.waitingCommands) = ([], 0) }
            return state.calls
        }
        for call in calls { call.done.resume(returning: .failure(error ?? .unavailable(.valkey, "not connected"))) }
    }
}

extension String {
    /// The first word of a server's error: `WRONGPASS`, `OOM`, `READONLY`, … .
    var errorClass: String { String(prefix { $0 != " " }) }
}
