import Logging
import Synchronization

/// Short-term memory in Valkey, over a few auto-pipelined connections.
final class ValkeyStore: ShortTermStore {
    let name = MemoryError.Store.valkey

    /// The longest key and value that are sent; more is refused here, before it costs anything.
    private static let maxKeyBytes = 1024
    private static let maxValueBytes = 4 << 20

    private let connections: [ValkeyConnection]
    private let turn = Atomic<Int>(0)

    init(_ configuration: ValkeyConfiguration, logger: Logger) async throws(MemoryError) {
        var connections: [ValkeyConnection] = []
        for _ in 0..<configuration.connections {
            connections.append(try ValkeyConnection(configuration, logger: logger))
        }
        self.connections = connections
        for connection in connections { await connection.firstAttempt() }
    }

    func get(_ keys: [String], deadline: Deadline) async throws(MemoryError) -> ShortTermValues {
        for key in keys { try check(key, []) }
        let answer = try await run([["MGET"] + keys], deadline)
        guard case .array(let replies)? = answer.replies.first, replies.count == keys.count else {
            throw .badReply(.valkey, "MGET of \(keys.count) keys")
        }
        let values = replies.map { reply -> [UInt8]? in if case .bytes(let bytes) = reply { bytes } else { nil } }
        return ShortTermValues(values: values, epoch: answer.epoch)
    }

    func set(_ entries: [ShortTermEntry], deadline: Deadline) async throws(MemoryError) {
        try await replace(removing: [], with: entries, deadline: deadline)
    }

    func replace(
        removing keys: [String], with entries: [ShortTermEntry], deadline: Deadline
    ) async throws(MemoryError) {
        var commands: [ValkeyCommand] = []
        for key in keys { try check(key, []) }
        if !keys.isEmpty { commands.append((["DEL"] + keys).map { Array($0.utf8) }) }
        for entry in entries {
            try check(entry.key, entry.value)
            let life = String(entry.timeToLive.wholeMilliseconds)
            var command: ValkeyCommand = [
                Array("SET".utf8), Array(entry.key.utf8), entry.value, Array("PX".utf8), Array(life.utf8),
            ]
            if entry.onlyIfAbsent { command.append(Array("NX".utf8)) }
            commands.append(command)
        }
        guard !commands.isEmpty else { return }
        _ = try await send(commands, deadline)
    }

    func ping(deadline: Deadline) async throws(MemoryError) {
        _ = try await run([["PING"]], deadline)
    }

    func close() async {
        for connection in connections { await connection.close() }
    }

    private func check(_ key: String, _ value: [UInt8]) throws(MemoryError) {
        guard key.utf8.count <= Self.maxKeyBytes, value.count <= Self.maxValueBytes else {
            throw MemoryError(
                .tooLarge, "Too large for the cache", store: .valkey,
                detail: "key of \(key.utf8.count), value of \(value.count) bytes")
        }
    }

    private func run(_ commands: [[String]], _ deadline: Deadline) async throws(MemoryError) -> ValkeyConnection.Replies
    {
        try await send(commands.map { $0.map { Array($0.utf8) } }, deadline)
    }

    /// Sends over the next connection that is there; an error reply of any command is thrown.
    private func send(
        _ commands: [ValkeyCommand], _ deadline: Deadline
    ) async throws(MemoryError) -> ValkeyConnection.Replies {
        let first = turn.wrappingAdd(1, ordering: .relaxed).newValue & Int.max
        var attempt = 0
        while true {
            do throws(MemoryError) {
                let connection = connections[(first + attempt) % connections.count]
                let answer = try await connection.run(commands, deadline: deadline)
                for case .error(let message) in answer.replies {
                    throw MemoryError.unavailable(.valkey, message, driverCode: message.errorClass)
                }
                return answer
            } catch {
                attempt += 1
                guard error.driverCode == ValkeyConnection.notConnected, attempt < connections.count else {
                    throw error
                }
            }
        }
    }
}
