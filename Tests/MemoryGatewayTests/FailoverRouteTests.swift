import HTTPTypes
import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

/// What callers are told when the primary store is there and takes nothing.
@Suite("Failovers, as callers see them")
struct FailoverRouteTests {
    private let remember = "/api/v1/memory/remember"

    private func body(_ world: TestWorld) -> JSON { ["client_id": .int(Int64(world.client)), "content": "tea"] }

    @Test("A database that takes no writes is not ready, and says so, until it does", .timeLimit(.minutes(5)))
    func readOnly() async throws {
        try await TestWorld.with { world async throws in
            let name = world.configuration.postgres.database
            try await world.administrate("ALTER DATABASE \(name) SET default_transaction_read_only = on")
            try await world.withMemory { memory async throws in
                let gateway = TestGateway(memory: memory, world: world)
                let reply = try await gateway.post(remember, body(world))
                #expect(reply.status == 503 && reply.json["outcome"] == "not_stored")
                let health = try await gateway.get("/health")
                #expect(health.status == 503 && health.json["dependencies"]?["postgres"] == "read-only")
                #expect(try await gateway.get("/health/ready").status == 503)
                #expect(try await gateway.get("/api/v1/memory/events?client_id=\(world.client)").status == 200)
                let findings = try await Memory.examine(
                    world.configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
                let finding = findings.first { $0.subject == "postgres" }
                #expect(finding?.isGood == false && finding?.text.contains("read-only") == true)
                try await world.administrate("ALTER DATABASE \(name) SET default_transaction_read_only = off")
                try await world.eventually("it is ready") { try await gateway.get("/health/ready").status == 200 }
                // Also on connections that began before.
                for _ in 0..<8 { #expect(try await gateway.post(remember, body(world)).status == 200) }
            }
        }
    }

    @Test("A standby alone serves reads and is not ready; promoted, it is", .timeLimit(.minutes(5)))
    func standbyAlone() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withStandby { standby async throws in
                let configuration = world.configuration(postgres: [standby.port])
                let memory = try await Memory.open(
                    configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
                let gateway = TestGateway(memory: memory, world: world)
                #expect(try await gateway.get("/health/ready").status == 503)
                #expect(try await gateway.get("/health").json["dependencies"]?["postgres"] == "read-only")
                #expect(try await gateway.get("/api/v1/memory/events?client_id=\(world.client)").status == 200)
                try await standby.perform(.promote)
                try await world.eventually("it is ready") { try await gateway.get("/health/ready").status == 200 }
                try await world.eventually("it writes") {
                    try await gateway.post(remember, body(world)).status == 200
                }
                await memory.close()
            }
        }
    }

    @Test("While PostgreSQL was never reached, a write is known not to be stored", .timeLimit(.minutes(5)))
    func neverReached() async throws {
        try await TestGateway.with(configure: { $0.postgres.port = 1 }) { gateway async throws in
            for reply in [
                try await gateway.post(remember, body(gateway.world)),
                try await gateway.patch("/api/v1/memory/7", ["client_id": 1, "content": "tea"]),
                try await gateway.delete("/api/v1/memory/7?client_id=1"),
            ] {
                #expect(reply.status == 503 && reply.headers[.retryAfter] == "1")
                #expect(reply.json["outcome"] == "not_stored")
            }
            let read = try await gateway.get("/api/v1/memory/7?client_id=1")
            #expect(read.status == 503 && read.json["outcome"] == nil)
        }
    }

    @Test("Without ids left the answer says so, and nobody is told to retry", .timeLimit(.minutes(5)))
    func lastID() async throws {
        try await TestWorld.with { world async throws in
            try await world.execute("ALTER SEQUENCE events_id_seq RESTART WITH 1800000000")
            try await world.execute("SELECT nextval('events_id_seq')")
            try await world.withMemory { memory async throws in
                let gateway = TestGateway(memory: memory, world: world)
                try await world.eventually("the health warns") {
                    let health = try await gateway.get("/health").json
                    return health["warnings"]?.array?.contains { $0.string?.contains("ids") == true } == true
                }
                let metrics = try await gateway.get("/metrics").text
                let line = metrics.split(separator: "\n").first { $0.hasPrefix("memory_gateway_ids_used_ratio") }
                let share = try #require(line.flatMap { $0.split(separator: " ").last }.flatMap { Double($0) })
                #expect(share > 0.83 && share < 0.84)
                try await world.execute("ALTER SEQUENCE events_id_seq RESTART WITH 2147483647")
                try await world.execute("SELECT nextval('events_id_seq')")
                let reply = try await gateway.post(remember, body(world))
                #expect(reply.status == 503 && reply.json["code"] == "ids_exhausted")
                #expect(reply.json["outcome"] == "not_stored" && reply.headers[.retryAfter] == nil)
                #expect(reply.json["error"]?.string?.contains("retry") == false)
            }
        }
    }
}
