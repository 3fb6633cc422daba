import MemoryTestSupport
import Testing

@testable import MemoryCore

/// N15 of the fault catalogue within the process: each step of a remember and of a recall fails once in each way. `make chaos`
/// does the same to the bytes between the processes.
@Suite("Torture")
struct TortureTests {
    @Test(
        "Whatever step of a remember fails: an honest outcome, one row for a key, one point in the end",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases, FaultPlan.Kind.allCases)
    func remember(_ set: StoreSet, _ kind: FaultPlan.Kind) async throws {
        try await TestWorld.with(set) { world async throws in
            var ids: [Int64] = []
            var steps = 0
            try await withFaultyMemory(world) { memory, plan async throws in
                func rows(_ text: String) async throws -> String? {
                    try await world.execute(
                        "SELECT count(*) FROM events WHERE payload ->> 'content' = '\(text)'")[0][0]
                }
                while true {
                    let text = "torture \(steps + 1)"
                    let draft = MemoryDraft(clientID: world.client, content: text)
                    plan.arm(at: steps + 1, kind)
                    let result = await outcome { () async throws(MemoryError) in
                        try await memory.remember(draft, idempotencyKey: text)
                    }
                    let wasHit = plan.disarm()
                    let stored = try await rows(text)
                    switch result {
                    case .success: #expect(stored == "1", "step \(steps + 1)")
                    case .failure(let error):
                        #expect(error.outcome != nil, "step \(steps + 1): \(error.debugDescription)")
                        if error.outcome == .notStored { #expect(stored == "0", "step \(steps + 1)") }
                    }
                    ids.append(try await memory.remember(draft, idempotencyKey: text).memoryID)
                    #expect(try await rows(text) == "1", "step \(steps + 1)")
                    guard wasHit else { break }
                    steps += 1
                }
            }
            #expect(steps >= 8)
            try await world.withMemory { memory async throws in
                try await world.eventually("nothing is owed") { try await memory.outboxCounts() == (0, 0) }
                let found = try await memory.vectors.existing(ids, in: .events, deadline: .after(.seconds(10)))
                #expect(found == Set(ids))
            }
        }
    }

    @Test(
        "Whatever step of a recall fails: the client's own memories or an error, and the right answer afterwards",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases, FaultPlan.Kind.allCases)
    func recall(_ set: StoreSet, _ kind: FaultPlan.Kind) async throws {
        try await TestWorld.with(set) { world async throws in
            try await world.withMemory { memory async throws in
                _ = try await memory.remember("tea at four", client: world.client)
                for number in 0..<20 {
                    _ = try await memory.remember("another's tea \(number)", client: world.client + 1)
                }
                try await world.eventually("nothing is owed") { try await memory.outboxCounts().pending == 0 }
            }
            try await withFaultyMemory(world) { memory, plan async throws in
                var steps = 0
                while true {
                    let request = RecallRequest(query: "when is tea \(steps)", clientID: world.client)
                    plan.arm(at: steps + 1, kind)
                    let result = await outcome { () async throws(MemoryError) in try await memory.recall(request) }
                    let wasHit = plan.disarm()
                    switch result {
                    case .success(let answer):
                        let contents = Set(answer.hits.map(\.record.content))
                        #expect(contents.isSubset(of: ["tea at four"]), "step \(steps + 1)")
                    case .failure(let error): #expect(error.store?.isPrimary == true, "step \(steps + 1): \(error)")
                    }
                    let answer = try await memory.recall(request)
                    #expect(
                        answer.hits.first?.record.content == "tea at four" && !answer.isDegraded, "step \(steps + 1)")
                    guard wasHit else { break }
                    steps += 1
                }
                #expect(steps >= 5)
            }
        }
    }

    private func withFaultyMemory(
        _ world: TestWorld, _ test: (Memory, FaultPlan) async throws -> Void
    ) async throws {
        let plan = FaultPlan()
        // A first opening makes the tables of an embedded world.
        try await world.withMemory { _ in }
        try await world.withMemory(failingBy: plan) { memory async throws in try await test(memory, plan) }
    }

    private func outcome<Value: Sendable>(
        _ body: () async throws(MemoryError) -> Value
    ) async -> Result<Value, MemoryError> {
        do throws(MemoryError) { return .success(try await body()) } catch { return .failure(error) }
    }
}
