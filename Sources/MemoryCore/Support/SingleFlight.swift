import Synchronization

/// Lets identical calls that run at the same time share one computation: the first computes, the others wait for it, each
/// until its own deadline.
final class SingleFlight<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// The value; nil when the flight landed before the call could join it.
    private typealias Waiter = PendingCall<Value?>

    private let store: MemoryError.Store
    private let flights = Mutex<[Key: [Waiter]]>([:])

    /// `store`: who is named in the errors of those who waited too long.
    init(store: MemoryError.Store = .postgres) { self.store = store }

    /// The value of a key: computed here, or by the call that is computing it already.
    func run(
        _ key: Key, deadline: Deadline = .after(.seconds(10)), _ compute: () async throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        let leads = flights.withLock { flights in
            guard flights[key] == nil else { return false }
            flights[key] = []
            return true
        }
        if !leads, let value = try await join(key, deadline) { return value }
        if !leads { return try await compute() }
        let result: Result<Value, MemoryError>
        do {
            result = .success(try await compute())
        } catch {
            result = .failure(error)
        }
        let waiters = flights.withLock { $0.removeValue(forKey: key) } ?? []
        for waiter in waiters { waiter.finish(result.map { $0 }) }
        return try result.get()
    }

    /// How many calls wait for this key's computation.
    func waitingCount(_ key: Key) -> Int { flights.withLock { $0[key]?.count { !$0.isOver } ?? 0 } }

    /// Waits for the flight's result; nil when it has landed already.
    private func join(_ key: Key, _ deadline: Deadline) async throws(MemoryError) -> Value? {
        try await Waiter.wait(for: store, until: deadline) { waiter in
            let joined = flights.withLock { flights in
                guard flights[key] != nil else { return false }
                flights[key]?.append(waiter)
                return true
            }
            if !joined { waiter.finish(.success(nil)) }
            return joined
        }
    }
}
