import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore

/// Cached answers when the stores behind them change places.
@Suite("Cached answers and failovers")
struct CacheFailoverTests {
    private static let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    @Test(
        "35: a Valkey that was a replica in between is another life, also on a connection that stayed",
        .timeLimit(.minutes(5)))
    func demotion() async throws {
        try await TestWorld.with(own: [.valkey]) { world async throws in
            try await world.withMemory { memory async throws in
                try await memory.remember("tea at four", client: world.client)
                let request = RecallRequest(query: "tea", clientID: world.client)
                try await world.eventually("the recall is cached") { try await memory.recall(request).isCached }
                let port = world.configuration.valkey.port
                try world.valkey(port, "REPLICAOF", "127.0.0.1", "1")
                try world.valkey(port, "REPLICAOF", "NO", "ONE")
                // What was cached counts no more, and is replaced by what is found then.
                try await world.eventually("it is computed anew") { try await !memory.recall(request).isCached }
                try await world.eventually("it is cached again") { try await memory.recall(request).isCached }
            }
        }
    }

    @Test("11: what was cached of rows that a failover lost is not served", .timeLimit(.minutes(5)))
    func lostRows() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withStandby { standby async throws in
                let ports = [world.configuration.postgres.port, standby.port]
                var configuration = world.configuration(postgres: ports)
                configuration.budgets = MemoryConfiguration.Budgets()
                let memory = try await Memory.open(configuration, logger: Self.silent)
                try await memory.remember("tea at four", client: world.client)
                try await world.eventually("the standby has it") {
                    try await world.contents(standby.port) == ["tea at four"]
                }
                try await standby.perform(.stop)
                let lost = try await memory.remember("tea at five", client: world.client).memoryID
                let request = RecallRequest(query: "tea", clientID: world.client)
                try await world.eventually("the recall is cached") {
                    let answer = try await memory.recall(request)
                    return answer.isCached && answer.count == 2
                }
                try await world.perform(.kill, .postgres)
                try await standby.perform(.start)
                try await standby.perform(.promote)
                // Another client's, so that nothing tells the cache of this one.
                try await world.eventually("it writes again") {
                    (try? await memory.remember("coffee", client: world.client + 1)) != nil
                }
                #expect(await (try? memory.memory(lost, client: world.client)) == nil)
                let answer = try await memory.recall(request)
                #expect(answer.hits.map(\.record.content) == ["tea at four"])
                await memory.close()
            }
        }
    }
}
