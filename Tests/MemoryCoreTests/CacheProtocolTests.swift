import MemoryTestSupport
import Testing

@testable import MemoryCore

/// What short-term memory missed: nothing old is served for longer than is promised, and nothing erased at all.
@Suite("Cache protocol")
struct CacheProtocolTests {
    private var soon: Deadline { .after(.seconds(20)) }

    @Test(
        "A copy of a record counts in the life of the server alone in which it was written: a crash may have lost that it was removed",
        .timeLimit(.minutes(5)))
    func copies() async throws {
        try await TestWorld.with(own: [.valkey, .postgres]) { world async throws in
            try await world.withMemory { memory async throws in
                let kept = try await memory.remember("tea at four", client: world.client).memoryID
                let gone = try await memory.remember("to forget", client: world.client).memoryID
                let key = "\(world.configuration.valkey.keyPrefix):{c\(world.client)}:memory:\(gone)"
                let copy = try #require(try await memory.cache.store.get([key], deadline: soon).values[0])
                try await memory.delete(gone, client: world.client)
                let life = memory.cache.store.epoch
                try await world.perform(.kill, .valkey)
                try await world.perform(.start, .valkey)
                try await world.eventually("another life is known") {
                    // A connection that nobody uses does not notice that its server has gone.
                    _ = try? await memory.cache.store.get([key], deadline: soon)
                    let now = memory.cache.store.epoch
                    return now != nil && now != life
                }
                // What a log of the second before the crash would bring back.
                let entry = ShortTermEntry(key: key, value: copy, timeToLive: .seconds(600))
                try await memory.cache.store.set([entry], deadline: soon)
                let late = try await memory.remember("tea at five", client: world.client).memoryID
                try await world.perform(.kill, .postgres)
                #expect(try await memory.memory(late, client: world.client).content == "tea at five")
                for id in [gone, kept] {
                    let error = await #expect(throws: MemoryError.self) {
                        try await memory.memory(id, client: world.client)
                    }
                    #expect(error?.code == .unavailable)
                }
            }
        }
    }

    @Test(
        "A gateway that cannot write to the cache leaves what only the cache is owed to the others, at once",
        .timeLimit(.minutes(5)))
    func cutOff() async throws {
        try await TestWorld.with { world async throws in
            var apart = world
            apart.configuration.valkey.port = 1
            try await apart.withMemory(failingBy: FaultPlan()) { memory async throws in
                let receipt = try await memory.remember("tea at five", client: world.client)
                #expect(receipt.failed == [.valkey])
                var fences: Set<String?> = []
                for _ in 0..<3 {
                    await memory.outbox.look()
                    let rows = try await world.execute("SELECT is_stored, due_at <= now(), fence FROM memory_outbox")
                    #expect(rows.map { Array($0.prefix(2)) } == [["t", "t"]])
                    fences.insert(rows.first?[2])
                }
                #expect(fences.count == 1, "it was taken")
                try await world.withMemory(failingBy: FaultPlan()) { other async throws in
                    await other.outbox.look()
                    await other.outbox.flush()
                    #expect(try await other.outboxCounts() == (0, 0))
                }
            }
        }
    }

    // MARK: Erasures

    private func outcome<Value: Sendable>(
        _ body: () async throws(MemoryError) -> Value
    ) async -> Result<Value, MemoryError> {
        do throws(MemoryError) { return .success(try await body()) } catch { return .failure(error) }
    }

    /// What is served of the session: never anything of before the erasure. True once the client's sessions are served.
    private func isServed(_ memory: Memory, _ client: Int) async -> Bool {
        let messages = await outcome { () async throws(MemoryError) in
            try await memory.messages(of: "s", client: client)
        }
        let state = await outcome { () async throws(MemoryError) in try await memory.state(of: "s", client: client) }
        if case .success(let messages) = messages { #expect(messages.isEmpty) }
        if case .failure(let error) = messages { #expect(error.code == .unavailable) }
        guard case .failure(let error) = state else {
            Issue.record("a state that was erased")
            return false
        }
        #expect(error.code == .unavailable || error.code == .notFound)
        guard case .success = messages else { return false }
        return true
    }

    @Test(
        "An erasure that Valkey missed: when it returns with everything it had, no gateway serves a session of the client",
        .timeLimit(.minutes(5)), arguments: [true, false])
    func erasure(byKill: Bool) async throws {
        try await TestWorld.with(own: [.valkey]) { world async throws in
            try await world.withMemory { first async throws in
                let client = world.client
                for _ in 0..<2 {
                    try await first.append([SessionMessage(role: "user", content: "secret")], to: "s", client: client)
                }
                try await first.setState(["secret": 1], of: "s", client: client)
                _ = try await first.remember("a secret", client: client)
                try await first.append([SessionMessage(role: "user", content: "x")], to: "s", client: client + 1)
                try await world.perform(byKill ? .kill : .pause, .valkey)
                let erasure = try await first.erase(client: client)
                #expect(erasure.failed == [.valkey])
                #expect(await !isServed(first, client))
                // Another gateway, which starts now and has heard of nothing.
                try await world.withMemory { second async throws in
                    #expect(await !isServed(second, client))
                    try await world.perform(byKill ? .start : .resume, .valkey)
                    try await world.eventually("short-term memory has followed") {
                        let (here, there) = (await isServed(first, client), await isServed(second, client))
                        return here && there
                    }
                    // Nobody else lost anything, and what is written now stays.
                    #expect(try await second.messages(of: "s", client: client + 1).count == 1)
                    try await second.append([SessionMessage(role: "user", content: "new")], to: "s", client: client)
                    try await world.eventually("nothing is owed") { try await first.outboxCounts() == (0, 0) }
                    #expect(try await first.messages(of: "s", client: client).map(\.content) == ["new"])
                }
            }
        }
    }

    @Test(
        "A gateway that has never reached the primary store serves no sessions; one that has goes on",
        .timeLimit(.minutes(5)))
    func unknownErasures() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withMemory { memory async throws in
                try await memory.append([SessionMessage(role: "user", content: "x")], to: "s", client: world.client)
                try await world.perform(.kill, .postgres)
                #expect(try await memory.messages(of: "s", client: world.client).count == 1)
                try await world.withMemory { other async throws in
                    let error = await #expect(throws: MemoryError.self) {
                        try await other.messages(of: "s", client: world.client)
                    }
                    #expect(error?.code == .unavailable)
                    try await world.perform(.start, .postgres)
                    try await world.eventually("it serves") {
                        (try? await other.messages(of: "s", client: world.client).count) == 1
                    }
                }
            }
        }
    }
}
