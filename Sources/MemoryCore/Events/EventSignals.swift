import Synchronization

/// Wakes whoever follows the events. Notifications are counted, so that one which comes while nobody waits is not missed, and
/// any number of them count as one.
///
/// No `AsyncStream`: a wait ends by its time, and cancelling the iteration of a stream ends the stream for good.
final class EventSignals: Sendable {
    private struct State {
        var followers = 0
        var count = 0
        var nextWaiter = 0
        var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
    }

    /// How many may follow at once.
    static let maxFollowers = 256

    private let state = Mutex(State())
    private let surroundings: any Surroundings

    init(_ surroundings: any Surroundings) { self.surroundings = surroundings }

    /// How many notifications there were.
    var count: Int { state.withLock { $0.count } }

    /// How many follow.
    var followers: Int { state.withLock { $0.followers } }

    /// Takes a place among those who follow; ``leave()`` gives it back.
    ///
    /// - Throws: ``MemoryError`` with `unavailable` when there are too many.
    func join() throws(MemoryError) {
        let isFull = state.withLock { state in
            guard state.followers < Self.maxFollowers else { return true }
            state.followers += 1
            return false
        }
        guard isFull else { return }
        throw MemoryError(
            .unavailable, "Too many follow the events already", isRetriable: true, retryAfter: .seconds(5))
    }

    func leave() { state.withLock { $0.followers -= 1 } }

    func notify() {
        let waiters = state.withLock { state in
            state.count += 1
            defer { state.waiters = [:] }
            return state.waiters.values
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Waits until there were more notifications than `count`, or the time is up.
    ///
    /// - Throws: `CancellationError`.
    func wait(beyond count: Int, within duration: Duration) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.wait(beyond: count) }
            group.addTask { [surroundings] in try await surroundings.sleep(for: duration) }
            try await group.next()
            group.cancelAll()
        }
        try Task.checkCancellation()
    }

    /// Waits for a notification, or until the task is cancelled.
    private func wait(beyond count: Int) async {
        let id = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { (waiter: CheckedContinuation<Void, Never>) in
                let isOver = state.withLock { state in
                    // A cancellation that came before found nobody to wake.
                    guard state.count == count, !Task.isCancelled else { return true }
                    state.waiters[id] = waiter
                    return false
                }
                if isOver { waiter.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
        }
    }
}
