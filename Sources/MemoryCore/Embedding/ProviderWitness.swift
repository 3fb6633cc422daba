import Synchronization

/// Knows whether a provider serves anybody, for when it fails a request: then either it is away, or the request is at
/// fault. Where no success speaks for it, a harmless request is made, and its answer stands for a while, so that a provider
/// that is away is not asked twice for each failure.
final class ProviderWitness: Sendable {
    private static let memory: Duration = .milliseconds(250)

    private struct State {
        var served: ContinuousClock.Instant?
        var refused: ContinuousClock.Instant?
    }

    private let state = Mutex(State())

    /// Notes a success.
    func served() { state.withLock { $0.served = .now } }

    /// Whether something succeeded since a moment; `probe` makes the harmless request.
    func serves(since start: ContinuousClock.Instant, _ probe: () async -> Bool) async -> Bool {
        let known = state.withLock { state -> Bool? in
            if let served = state.served, served >= start { return true }
            if let refused = state.refused, refused + Self.memory > .now { return false }
            return nil
        }
        if let known { return known }
        let serves = await probe()
        state.withLock { state in
            if serves { state.served = .now } else { state.refused = .now }
        }
        return serves
    }
}
