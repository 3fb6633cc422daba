/// Short-term memory: values that expire, that may be evicted at any time, and that may be gone after a restart.
protocol ShortTermStore: Sendable {
    /// The name used in `stored_in`, `/health`, logs and metrics.
    var name: MemoryError.Store { get }

    /// The life of the store that wrote or read last; nil while none is known.
    var epoch: UInt64? { get }

    /// Reads values, nil for each that is not there.
    func get(_ keys: [String], deadline: Deadline) async throws(MemoryError) -> ShortTermValues

    /// Writes values, in order, in one go.
    func set(_ entries: [ShortTermEntry], deadline: Deadline) async throws(MemoryError)

    /// Removes values, then writes others, then publishes, in one go.
    func replace(
        removing keys: [String], with entries: [ShortTermEntry], publishing: [ShortTermPublication], deadline: Deadline
    ) async throws(MemoryError)

    /// Reads a value and lets it live on from now.
    func get(touching key: String, timeToLive: Duration, deadline: Deadline) async throws(MemoryError) -> [UInt8]?

    /// Removes values and lists.
    ///
    /// - Returns: how many of the keys there were.
    func remove(_ keys: [String], deadline: Deadline) async throws(MemoryError) -> Int

    /// Removes everything whose key begins with a prefix. Looks at every key there is: for rare occasions.
    func removeAll(prefix: String, deadline: Deadline) async throws(MemoryError) -> Int

    /// Adds values to the end of a list, of which only the last stay; it lives on from now.
    ///
    /// - Returns: how many values it has now.
    func append(
        _ values: [[UInt8]], to key: String, keepingLast count: Int, timeToLive: Duration, deadline: Deadline
    ) async throws(MemoryError) -> Int

    /// The last values of a list, in order; it lives on from now.
    func last(
        _ count: Int, of key: String, timeToLive: Duration, deadline: Deadline
    ) async throws(MemoryError) -> [[UInt8]]

    /// Counts a call against a rate.
    ///
    /// - Returns: nil when it conforms, else how long to wait.
    func take(_ key: String, _ limit: RateLimit, deadline: Deadline) async throws(MemoryError) -> Duration?

    /// How many values it has dropped because it was full.
    func evicted(deadline: Deadline) async throws(MemoryError) -> Int

    /// Whether the store answers.
    func ping(deadline: Deadline) async throws(MemoryError)

    /// Closes connections.
    func close() async
}

/// What a read found.
struct ShortTermValues: Sendable {
    /// One for each key, in the order of the keys.
    let values: [[UInt8]?]
    /// Which history of the store answered: another one after a restart or a failover, in which recent writes may have been
    /// lost.
    let epoch: UInt64
}

/// Something to tell whoever listens to a channel.
struct ShortTermPublication: Sendable {
    var channel: String
    var message: [UInt8]
}

/// A value to keep for a while.
struct ShortTermEntry: Sendable {
    var key: String
    var value: [UInt8]
    var timeToLive: Duration
    /// Leaves a value that is there already as it is.
    var onlyIfAbsent = false
}
