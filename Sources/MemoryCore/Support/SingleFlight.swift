import Synchronization

/// Lets identical calls that run at the same time share one computation: the first computes, the others wait for it.
final class SingleFlight<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private typealias Waiter = CheckedContinuation<Result<Value, MemoryError>?, Never>

    private let flights = Mutex<[Key: [Waiter]]>([:])

    /// The value of a key: computed here, or by the call that is computing it already.
    func run(
        _ key: Key, _ compute: () async throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        let leads = flights.withLock { flights in
            guard flights[key] == nil else { return false }
            flights[key] = []
            return true
        }
        if !leads, let result = await join(key) { return try result.get() }
        if !leads { return try await compute() }  // the flight landed before we could join it
        let result: Result<Value, MemoryError>
        do {
            result = .success(try await compute())
        } catch {
            result = .failure(error)
        }
        let waiters = flights.withLock { $0.removeValue(forKey: key) } ?? []
        for waiter in waiters { waiter.resume(returning: result) }
        return try result.get()
    }

    /// How many calls wait for this key's computation.
    func waitingCount(_ key: Key) -> Int { flights.withLock { $0[key]?.count ?? 0 } }

    /// Waits for the flight's result; nil when it has landed already.
    private func join(_ key: Key) async -> Result<Value, MemoryError>? {
        await withCheckedContinuation { (waiter: Waiter) in
            let joined = flights.withLock { flights in
                guard flights[key] != nil else { return false }
                flights[key]?.append(waiter)
                return true
            }
            if !joined { waiter.resume(returning: nil) }
        }
    }
}
