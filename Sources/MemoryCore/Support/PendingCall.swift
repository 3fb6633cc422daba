import Synchronization

/// A caller that waits for a result until its deadline, and goes on once, with whatever comes first.
final class PendingCall<Value: Sendable>: Expiring {
    /// What its deadline means once it has begun.
    enum Rule: Sendable {
        /// It ends: nothing is lost but the answer.
        case ends
        /// It changes something: a moment later it ends, and nobody can say whether it was done.
        case endsUnknown
        /// Whoever runs it ends it.
        case isHandedOver
    }

    /// How long the fate of a change is waited for past its deadline, as on a server.
    static var patience: Duration { .milliseconds(250) }

    private struct State {
        var waiter: CheckedContinuation<Result<Value, MemoryError>, Never>?
        var hasBegun = false
        var isLate = false
    }

    private enum Step {
        case over
        case later(Deadline)
        case end(hasBegun: Bool)
    }

    private let store: MemoryError.Store
    private let deadline: Deadline
    private let rule: Rule
    private let state: Mutex<State>

    private init(
        _ waiter: CheckedContinuation<Result<Value, MemoryError>, Never>, store: MemoryError.Store, deadline: Deadline,
        rule: Rule
    ) {
        self.store = store
        self.deadline = deadline
        self.rule = rule
        state = Mutex(State(waiter: waiter))
    }

    /// Waits for what somebody else finishes; `enqueue` hands the call over, and answers whether there is anything to wait
    /// for.
    static func wait(
        for store: MemoryError.Store, until deadline: Deadline, once rule: Rule = .ends,
        _ enqueue: (PendingCall) -> Bool
    ) async throws(MemoryError) -> Value {
        let result = await withCheckedContinuation { waiter in
            let call = PendingCall(waiter, store: store, deadline: deadline, rule: rule)
            if enqueue(call) { Pulse.shared.watch(call, until: deadline) }
        }
        return try result.get()
    }

    /// Whether anybody still waits.
    var isOver: Bool { state.withLock { $0.waiter == nil } }

    /// Marks that what it waits for is being done; false when nobody waits any more.
    func begin() -> Bool {
        state.withLock { state in
            state.hasBegun = true
            return state.waiter != nil
        }
    }

    /// Lets the caller go on; false when its time was over before.
    @discardableResult
    func finish(_ result: Result<Value, MemoryError>) -> Bool {
        let waiter = state.withLock { state in
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(returning: result)
        return waiter != nil
    }

    func expire() -> Deadline? {
        let step: Step = state.withLock { state in
            guard state.waiter != nil else { return .over }
            guard deadline.hasPassed else { return .later(.after(deadline.remaining)) }
            guard state.hasBegun else { return .end(hasBegun: false) }
            switch rule {
            case .ends: return .end(hasBegun: true)
            case .isHandedOver: return .over
            case .endsUnknown:
                defer { state.isLate = true }
                return state.isLate ? .end(hasBegun: true) : .later(.after(Self.patience))
            }
        }
        switch step {
        case .over: return nil
        case .later(let deadline): return deadline
        case .end(let hasBegun):
            finish(.failure(timeout(hasBegun: hasBegun)))
            return nil
        }
    }

    private func timeout(hasBegun: Bool) -> MemoryError {
        guard hasBegun else { return .waited(for: store) }
        var error = MemoryError.timeout(store, "no answer before the deadline")
        if case .endsUnknown = rule { error.outcome = .unknown }
        error.isOwnDelay = deadline.wasHeldUp
        return error
    }
}
