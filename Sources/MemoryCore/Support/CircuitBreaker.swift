import Synchronization

/// Keeps calls from a dependency that does not serve: after a few failures in a row every call fails at once, and one at a
/// time is let through to see whether it serves again.
///
/// Source of the pattern: Nygard, "Release It!", 2007.
final class CircuitBreaker: Sendable {
    private struct State {
        var failures = 0
        /// When the first of them was.
        var failsSince: ContinuousClock.Instant?
        /// Nil while it is closed.
        var opensAgainAt: ContinuousClock.Instant?
        var isProbing = false
    }

    private static let threshold = 5

    /// For how long nothing must have succeeded: calls that share a pipeline fail together, and are one failure.
    private let silence: Duration
    private let store: MemoryError.Store
    private let backoff: Backoff
    private let surroundings: any Surroundings
    private let state = Mutex(State())
    private let errors: StoreErrors
    private let outage: Outage

    /// How long it stays open grows from 100 ms to a second: a dependency that is back is found within that.
    init(
        _ store: MemoryError.Store, silence: Duration = .milliseconds(250),
        backoff: Backoff = Backoff(base: .milliseconds(100), cap: .seconds(1)),
        outage: Outage = .silent, surroundings: any Surroundings = SystemSurroundings()
    ) {
        self.store = store
        self.silence = silence
        self.backoff = backoff
        self.outage = outage
        self.surroundings = surroundings
        errors = StoreErrors(store)
    }

    /// The driver code of a refusal without a call.
    static let isOpen = "breaker open"

    /// Runs a call and learns from it; what the input is at fault for says nothing of the store,
    /// nor does time that was lost in this process.
    func run<Value>(
        writing: Bool = true, _ call: () async throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        guard enter() else {
            let error = MemoryError.unavailable(store, "too many failures in a row", driverCode: Self.isOpen)
            outage.failed(error)
            throw error
        }
        do throws(MemoryError) {
            let value = try await call()
            succeeded()
            outage.succeeded(writing: writing)
            return value
        } catch {
            if error.isOwnDelay {
                undecided()
                throw error
            }
            if Self.refusesWrites(error) {
                succeeded()
                outage.failed(error, writing: true)
            } else if Self.isStores(error) {
                failed()
                outage.failed(error, writing: writing)
            } else {
                succeeded()
            }
            errors.count(error)
            throw error
        }
    }

    /// A store that refuses writes answers, and reads go on.
    private static func refusesWrites(_ error: MemoryError) -> Bool {
        error.isReadOnly || error.driverCode == MemoryError.standbyMissingCode
    }

    private static func isStores(_ error: MemoryError) -> Bool {
        (error.code == .unavailable || error.code == .timeout) && error.isRetriable
    }

    private func enter() -> Bool {
        state.withLock { state in
            guard let opensAgainAt = state.opensAgainAt else { return true }
            guard opensAgainAt <= surroundings.instant, !state.isProbing else { return false }
            state.isProbing = true
            return true
        }
    }

    /// A call that never had its chance: the next one may probe.
    private func undecided() { state.withLock { $0.isProbing = false } }

    private func succeeded() { state.withLock { $0 = State() } }

    private func failed() {
        state.withLock { state in
            let now = surroundings.instant
            state.failures += 1
            state.isProbing = false
            let since = state.failsSince ?? now
            state.failsSince = since
            guard state.failures >= Self.threshold, now - since >= silence else { return }
            state.opensAgainAt = now + backoff.delay(attempt: state.failures - Self.threshold + 1, surroundings)
        }
    }
}
