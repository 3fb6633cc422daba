import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Valkey")
struct ValkeyTests {
    private static let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func with(
        _ world: TestWorld, configure: (inout ValkeyConfiguration) -> Void = { _ in },
        _ test: (ValkeyStore) async throws -> Void
    ) async throws {
        var configuration = world.configuration.valkey
        configure(&configuration)
        let store = try await ValkeyStore(configuration, logger: Self.silent)
        try await test(store)
        await store.close()
    }

    private var soon: Deadline { .after(.seconds(10)) }

    private func entry(_ key: String, _ value: [UInt8], life: Duration = .seconds(60)) -> ShortTermEntry {
        ShortTermEntry(key: key, value: value, timeToLive: life)
    }

    /// Sends any command, as an operator would.
    private func command(_ world: TestWorld, _ words: String...) async throws -> ValkeyReply {
        let connection = try ValkeyConnection(world.configuration.valkey)
        await connection.firstAttempt()
        let replies = try await connection.run([words.map { Array($0.utf8) }], deadline: soon)
        await connection.close()
        return replies.replies[0]
    }

    @Test("Any bytes come back under any key, and what is missing is nil", .timeLimit(.minutes(5)))
    func bytes() async throws {
        try await TestWorld.with { world async throws in
            try await with(world) { store async throws in
                let prefix = world.configuration.valkey.keyPrefix
                let hostile = "\(prefix):a\r\nSET b 1\r\n"
                let values: [[UInt8]] = [
                    [], [0, 13, 10, 255], Array("\r\n$3\r\n".utf8), Array(repeating: 7, count: 1 << 20),
                ]
                for value in values {
                    try await store.set([entry(hostile, value)], deadline: soon)
                    let found = try await store.get([hostile, "\(prefix):none"], deadline: soon)
                    #expect(found.values == [value, nil])
                }
                #expect(try await store.get(["b"], deadline: soon).values == [nil])
            }
        }
    }

    @Test("Entries expire, and an entry that is only to be made stays as it is", .timeLimit(.minutes(5)))
    func lives() async throws {
        try await TestWorld.with { world async throws in
            try await with(world) { store async throws in
                let key = "\(world.configuration.valkey.keyPrefix):k"
                try await store.set([entry(key, [1], life: .milliseconds(30))], deadline: soon)
                try await world.eventually("the entry expires") {
                    try await store.get([key], deadline: soon).values == [nil]
                }
                var once = entry(key, [2])
                once.onlyIfAbsent = true
                try await store.set([once], deadline: soon)
                once.value = [3]
                try await store.set([once], deadline: soon)
                #expect(try await store.get([key], deadline: soon).values == [[2]])
                try await store.replace(removing: [key], with: [entry(key + "2", [4])], publishing: [], deadline: soon)
                #expect(try await store.get([key, key + "2"], deadline: soon).values == [nil, [4]])
            }
        }
    }

    @Test("What is too long is refused before it is sent", .timeLimit(.minutes(5)))
    func bounds() async throws {
        try await TestWorld.with { world async throws in
            try await with(world) { store async throws in
                for entry in [
                    entry(String(repeating: "k", count: 2000), []), entry("k", Array(repeating: 0, count: 5 << 20)),
                ] {
                    let error = await #expect(throws: MemoryError.self) { try await store.set([entry], deadline: soon) }
                    #expect(error?.code == .tooLarge)
                }
            }
        }
    }

    @Test("A thousand concurrent readers each get their own value", .timeLimit(.minutes(5)))
    func pipelining() async throws {
        try await TestWorld.with { world async throws in
            try await with(world) { store async throws in
                let prefix = world.configuration.valkey.keyPrefix
                let keys = (0..<1000).map { "\(prefix):p\($0)" }
                try await store.set(keys.map { entry($0, Array($0.utf8)) }, deadline: soon)
                let swapped = try await withThrowingTaskGroup(of: Bool.self) { group in
                    for key in keys {
                        group.addTask { try await store.get([key], deadline: soon).values != [Array(key.utf8)] }
                    }
                    return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
                }
                #expect(swapped == 0)
            }
        }
    }

    @Test("Down, it fails at once; back, it serves again, in another life", .timeLimit(.minutes(5)))
    func restart() async throws {
        try await TestWorld.with(own: [.valkey]) { world async throws in
            try await with(world, configure: { $0.connections = 1 }) { store async throws in
                let before = try await store.get(["k"], deadline: soon).epoch
                try await world.perform(.kill, .valkey)
                try await world.eventually("the loss is noticed") {
                    (try? await store.ping(deadline: soon)) == nil
                }
                let error = await #expect(throws: MemoryError.self) { try await store.ping(deadline: soon) }
                #expect(error?.code == .unavailable)
                try await world.perform(.start, .valkey)
                try await world.eventually("it is back") { (try? await store.ping(deadline: soon)) != nil }
                #expect(try await store.get(["k"], deadline: soon).epoch != before)
            }
        }
    }

    @Test("Frozen, it costs the deadline, and no late reply is taken for another's", .timeLimit(.minutes(5)))
    func frozen() async throws {
        try await TestWorld.with(own: [.valkey]) { world async throws in
            try await with(world, configure: { $0.connections = 1 }) { store in
                try await store.set([entry("a", [1]), entry("b", [2])], deadline: soon)
                try await world.perform(.pause, .valkey)
                let error = await #expect(throws: MemoryError.self) {
                    try await store.get(["a"], deadline: .after(.milliseconds(50)))
                }
                #expect(error?.code == .timeout)
                try await world.perform(.resume, .valkey)
                try await world.eventually("it serves again") { (try? await store.ping(deadline: soon)) != nil }
                for _ in 0..<100 { #expect(try await store.get(["b"], deadline: soon).values == [[2]]) }
            }
        }
    }

    @Test("An ACL user with few rights serves; a wrong password does not", .timeLimit(.minutes(5)))
    func acl() async throws {
        try await TestWorld.with(own: [.valkey]) { world async throws in
            _ = try await command(
                world, "ACL", "SETUSER", "gateway", "on", ">word", "~mg*", "+mget", "+set", "+del", "+ping", "+auth",
                "+select")
            func configure(_ password: String) -> (inout ValkeyConfiguration) -> Void {
                { settings in
                    settings.username = "gateway"
                    settings.password = Secret(password)
                    settings.database = 3
                }
            }
            try await with(world, configure: configure("word")) { store in
                try await store.set([entry("mg:k", [1])], deadline: soon)
                #expect(try await store.get(["mg:k"], deadline: soon).values == [[1]])
                await #expect(throws: MemoryError.self) { try await store.get(["other"], deadline: soon) }
            }
            try await with(world, configure: configure("wrong")) { store in
                await #expect(throws: MemoryError.self) { try await store.ping(deadline: soon) }
            }
        }
    }

    @Test("An error of the server is an error, and the connection goes on", .timeLimit(.minutes(5)))
    func serverErrors() async throws {
        try await TestWorld.with(own: [.valkey]) { world async throws in
            try await with(world) { store async throws in
                _ = try await command(world, "CONFIG", "SET", "maxmemory-policy", "noeviction")
                _ = try await command(world, "CONFIG", "SET", "maxmemory", "1")
                let error = await #expect(throws: MemoryError.self) {
                    try await store.set([entry("k", [1])], deadline: soon)
                }
                #expect(error?.driverCode == "OOM")
                try await store.ping(deadline: soon)
            }
        }
    }

    @Test("Full memory evicts by LRU instead of refusing, and the server counts it", .timeLimit(.minutes(5)))
    func eviction() async throws {
        try await TestWorld.with(own: [.valkey]) { world async throws in
            try await with(world) { store async throws in
                for (setting, expected) in [("maxmemory-policy", "allkeys-lru"), ("maxmemory", "209715200")] {
                    guard case .array(let pair) = try await command(world, "CONFIG", "GET", setting),
                        case .bytes(let value)? = pair.last
                    else { throw MemoryError.invalid("no \(setting)") }
                    #expect(String(decoding: value, as: UTF8.self) == expected)
                }
                _ = try await command(world, "CONFIG", "SET", "maxmemory", "8mb")
                let keys = (0..<300).map { "k\($0)" }
                for key in keys {
                    try await store.set([entry(key, Array(repeating: 0, count: 50_000))], deadline: soon)
                }
                let kept = try await store.get(keys, deadline: soon).values.count { $0 != nil }
                #expect(kept > 0 && kept < 200)
                guard case .bytes(let stats) = try await command(world, "INFO", "stats") else {
                    throw MemoryError.invalid("no stats")
                }
                let line = String(decoding: stats, as: UTF8.self).split(whereSeparator: \.isNewline)
                    .first { $0.hasPrefix("evicted_keys:") }
                let evicted = try #require(line.flatMap { Int($0.dropFirst("evicted_keys:".count)) })
                #expect(evicted >= 300 - kept)
            }
        }
    }
}
