import Foundation
import MemoryTestSupport
import Testing

/// Many lives of a memory, each decided by a seed. `SIMULATION_SEEDS=10000` runs more of them (`make simulate`), and
/// `SIMULATION_FIRST=1234` begins with another.
@Suite("Simulation")
struct SimulationTests {
    private static let first = number("SIMULATION_FIRST") ?? 1
    private static let count = number("SIMULATION_SEEDS") ?? 24

    private static func number(_ name: String) -> UInt64? {
        ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) }
    }

    @Test(
        "Embedded: whatever fails, what was acknowledged is there, and no recall is stale",
        .timeLimit(.minutes(240)), arguments: first..<(first + count))
    func embedded(_ seed: UInt64) async throws {
        try await TestWorld.with(.embedded) { world async throws in
            try await Simulation(world, seed: seed).run(steps: 100)
        }
    }

    @Test(
        "Servers: whatever fails, what was acknowledged is there, and no recall is stale",
        .timeLimit(.minutes(240)), arguments: first..<(first + max(2, count / 12)))
    func servers(_ seed: UInt64) async throws {
        try await TestWorld.with(.servers, own: [.qdrant]) { world async throws in
            try await Simulation(world, seed: seed).run(steps: 60)
        }
    }

    @Test(
        "Embedded: whatever calls overlap and whatever comes late, a point shows its record in the end",
        .timeLimit(.minutes(240)), arguments: first..<(first + count))
    func overlapEmbedded(_ seed: UInt64) async throws {
        try await TestWorld.with(.embedded) { world async throws in
            try await Overlap.run(world, seed: seed, lives: 10)
        }
    }

    @Test(
        "Servers: whatever calls overlap and whatever comes late, a point shows its record in the end",
        .timeLimit(.minutes(240)), arguments: first..<(first + max(2, count / 12)))
    func overlapServers(_ seed: UInt64) async throws {
        try await TestWorld.with(.servers, own: [.qdrant]) { world async throws in
            try await Overlap.run(world, seed: seed, lives: 10)
        }
    }
}
