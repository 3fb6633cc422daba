/// Short-term memory: values that expire, that may be evicted at any time, and that may be gone after a restart.
protocol ShortTermStore: Sendable {
    /// The name used in `stored_in`, `/health`, logs and metrics.
    var name: MemoryError.Store { get }

    /// Reads values, nil for each that is not there.
    func get(_ keys: [String], deadline: Deadline) async throws(MemoryError) -> ShortTermValues

    /// Writes values, in order, in one go.
    func set(_ entries: [ShortTermEntry], deadline: Deadline) async throws(MemoryError)

    /// Removes values, and then writes others, in one go.
    func replace(
        removing keys: [String], with entries: [ShortTermEntry], deadline: Deadline
    ) async throws(MemoryError)

    /// Whether the store answers.
    func ping(deadline: Deadline) async throws(MemoryError)

    /// Closes connections.
    func close() async
}

/// What a read found.
struct ShortTermValues: Sendable {
    /// One for each key, in the order of the keys.
    let values: [[UInt8]?]
    /// Which life of the store answered: another one after a restart, in which recent writes may have been lost.
    let epoch: String
}

/// A value to keep for a while.
struct ShortTermEntry: Sendable {
    var key: String
    var value: [UInt8]
    var timeToLive: Duration
    /// Leaves a value that is there already as it is.
    var onlyIfAbsent = false
}
