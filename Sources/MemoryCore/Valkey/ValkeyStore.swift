import Logging
import Synchronization

/// Short-term memory in Valkey, over a few auto-pipelined connections.
final class ValkeyStore: ShortTermStore {
    let name = MemoryError.Store.valkey

    /// The longest key and value that are sent; more is refused here, before it costs anything.
    private static let maxKeyBytes = 1024
    private static let maxValueBytes = 4 << 20
    /// Whoever has less time than this does not wait for a server that is late.
    private static let patience: Duration = .milliseconds(250)

    private let connections: [ValkeyConnection]
    /// For work that nobody waits for, what looks at every key, and questions of health: nothing of it holds up a request.
    private let background: ValkeyConnection
    private let turn = Atomic<Int>(0)
    private let breaker = CircuitBreaker(.valkey)

    init(_ configuration: ValkeyConfiguration, logger: Logger) async throws(MemoryError) {
        // One for all of them: it is the server that is away.
        let outage = Outage(of: .valkey, logger: logger)
        var connections: [ValkeyConnection] = []
        for _ in 0..<configuration.connections {
            connections.append(try ValkeyConnection(configuration, outage: outage))
        }
        self.connections = connections
        background = try ValkeyConnection(configuration, outage: outage)
        for connection in connections + [background] { await connection.firstAttempt() }
    }

    var epoch: UInt64? {
        for connection in connections { if let epoch = connection.epoch { return epoch } }
        return nil
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
        try await replace(removing: [], with: entries, publishing: [], deadline: deadline)
    }

    func replace(
        removing keys: [String], with entries: [ShortTermEntry], publishing: [ShortTermPublication], deadline: Deadline
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
        for publication in publishing {
            try check(publication.channel, publication.message)
            commands.append([Array("PUBLISH".utf8), Array(publication.channel.utf8), publication.message])
        }
        guard !commands.isEmpty else { return }
        _ = try await send(commands, deadline)
    }

    func get(touching key: String, timeToLive: Duration, deadline: Deadline) async throws(MemoryError) -> [UInt8]? {
        try check(key, [])
        let answer = try await run([["GETEX", key, "PX", String(timeToLive.wholeMilliseconds)]], deadline)
        if case .bytes(let bytes)? = answer.replies.first { return bytes }
        return nil
    }

    func remove(_ keys: [String], deadline: Deadline) async throws(MemoryError) -> Int {
        for key in keys { try check(key, []) }
        return Self.count(try await run([["DEL"] + keys], deadline).replies.first)
    }

    func removeAll(prefix: String, deadline: Deadline) async throws(MemoryError) -> Int {
        // What a pattern gives a meaning is meant as itself.
        let pattern = prefix.map { "*?[]\\^".contains($0) ? "\\\($0)" : String($0) }.joined() + "*"
        var cursor = "0"
        var removed = 0
        repeat {
            let answer = try await run([["SCAN", cursor, "MATCH", pattern, "COUNT", "1000"]], deadline)
            guard case .array(let parts)? = answer.replies.first, parts.count == 2, case .bytes(let next) = parts[0],
                case .array(let found) = parts[1]
            else { throw .badReply(.valkey, "SCAN") }
            cursor = String(decoding: next, as: UTF8.self)
            let keys = found.compactMap { key -> [UInt8]? in if case .bytes(let bytes) = key { bytes } else { nil } }
            if !keys.isEmpty {
                removed += Self.count(try await send([[Array("DEL".utf8)] + keys], deadline).replies.first)
            }
        } while cursor != "0"
        return removed
    }

    func append(
        _ values: [[UInt8]], to key: String, keepingLast count: Int, timeToLive: Duration, deadline: Deadline
    ) async throws(MemoryError) -> Int {
        for value in values { try check(key, value) }
        let push = [Array("RPUSH".utf8), Array(key.utf8)] + values
        let rest = [["LTRIM", key, "-\(count)", "-1"], ["PEXPIRE", key, String(timeToLive.wholeMilliseconds)]]
        let answer = try await send([push] + rest.map { $0.map { Array($0.utf8) } }, deadline)
        return min(count, Self.count(answer.replies.first))
    }

    func last(
        _ count: Int, of key: String, timeToLive: Duration, deadline: Deadline
    ) async throws(MemoryError) -> [[UInt8]] {
        try check(key, [])
        let answer = try await run(
            [["LRANGE", key, "-\(count)", "-1"], ["PEXPIRE", key, String(timeToLive.wholeMilliseconds)]], deadline)
        guard case .array(let items)? = answer.replies.first else { throw .badReply(.valkey, "LRANGE") }
        return items.compactMap { item in if case .bytes(let bytes) = item { bytes } else { nil } }
    }

    /// ``RateLimit/take(_:now:)`` by the server's clock, in one step, so that any number of gateways count together.
    private static let takeScript = """
        local time = redis.call('TIME')
        local now = time[1] * 1000000 + time[2]
        local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + ARGV[1]
        if arrival - now > tonumber(ARGV[2]) then return arrival - now - ARGV[2] end
        redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
        return 0
        """

    func take(_ key: String, _ limit: RateLimit, deadline: Deadline) async throws(MemoryError) -> Duration? {
        try check(key, [])
        let answer = try await run(
            [["EVAL", Self.takeScript, "1", key, String(limit.interval), String(limit.tolerance)]], deadline)
        guard case .int(let wait)? = answer.replies.first else { throw .badReply(.valkey, "EVAL") }
        return wait > 0 ? .microseconds(wait) : nil
    }

    func evicted(deadline: Deadline) async throws(MemoryError) -> Int {
        let answer = try await run([["INFO", "stats"]], deadline)
        guard case .bytes(let info)? = answer.replies.first,
            let line = String(decoding: info, as: UTF8.self).split(whereSeparator: \.isNewline)
                .first(where: { $0.hasPrefix("evicted_keys:") }),
            let count = Int(line.dropFirst("evicted_keys:".count))
        else { throw .badReply(.valkey, "INFO stats") }
        return count
    }

    private static func count(_ reply: ValkeyReply?) -> Int {
        if case .int(let count)? = reply { Int(clamping: count) } else { 0 }
    }

    func ping(deadline: Deadline) async throws(MemoryError) {
        _ = try await run([["PING"]], deadline)
    }

    func close() async {
        for connection in connections + [background] { await connection.close() }
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
        try await breaker.run { () throws(MemoryError) in try await exchange(commands, deadline) }
    }

    private func exchange(
        _ commands: [ValkeyCommand], _ deadline: Deadline
    ) async throws(MemoryError) -> ValkeyConnection.Replies {
        guard Lane.current == .request else {
            return try Self.checked(await background.run(commands, deadline: deadline))
        }
        // All connections lead to one server: while it owes anyone a reply, only those go on who have time to wait.
        if connections.contains(where: \.isLate), deadline.remaining < Self.patience {
            throw .timeout(.valkey, "replies are owed")
        }
        let first = turn.wrappingAdd(1, ordering: .relaxed).newValue & Int.max
        var attempt = 0
        while true {
            do throws(MemoryError) {
                let connection = connections[(first + attempt) % connections.count]
                return try Self.checked(await connection.run(commands, deadline: deadline))
            } catch {
                attempt += 1
                guard error.driverCode == ValkeyConnection.notConnected, attempt < connections.count else {
                    throw error
                }
            }
        }
    }

    private static func checked(_ answer: ValkeyConnection.Replies) throws(MemoryError) -> ValkeyConnection.Replies {
        for case .error(let message) in answer.replies {
            throw .unavailable(.valkey, message, driverCode: message.errorClass)
        }
        return answer
    }
}
