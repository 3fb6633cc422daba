import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Outages")
struct OutageTests {
    private let log = RecordedLog()
    private let surroundings = TestSurroundings(seed: 1)
    private let error = MemoryError.unavailable(.qdrant, "refused")

    @Test(
        "An outage is a line when it begins, one a minute with a count, and one when it ends", .timeLimit(.minutes(1)))
    func lines() {
        let outage = Outage(of: .qdrant, logger: log.logger, surroundings: surroundings)
        outage.succeeded()
        #expect(log.lines.isEmpty)
        for _ in 0..<150 {
            for _ in 0..<10 { outage.failed(error) }
            surroundings.advance(by: .seconds(1))
        }
        outage.succeeded()
        for _ in 0..<100 { outage.succeeded() }
        #expect(
            log.lines.map(\.message) == [
                "qdrant is away", "qdrant is still away", "qdrant is still away", "qdrant is back",
            ])
        #expect(log.lines.map(\.level) == [.warning, .warning, .warning, .notice])
        #expect(log.lines[0].metadata["error"]?.contains("refused") == true)
        #expect(log.lines.compactMap { $0.metadata["count"].flatMap { Int($0) } }.reduce(0, +) == 1500)
        #expect(log.lines[3].metadata["seconds"] == "150")
    }

    @Test("What fails now and then is said once a minute, and at once when it lasts", .timeLimit(.minutes(1)))
    func flapping() {
        let outage = Outage(of: .qdrant, logger: log.logger, surroundings: surroundings)
        for _ in 0..<600 {
            outage.failed(error)
            outage.succeeded()
            surroundings.advance(by: .milliseconds(100))
        }
        #expect(log.lines.isEmpty, "each is a call that came too late")
        for _ in 0..<600 {
            for _ in 0..<15 {
                outage.failed(error)
                surroundings.advance(by: .milliseconds(100))
            }
            outage.succeeded()
        }
        let fifteenMinutes = log.lines.count { $0.message == "qdrant is away" }
        #expect((13...16).contains(fifteenMinutes), "it lasts 1.5 seconds each time: once a minute")
        for _ in 0..<60 {
            outage.failed(error)
            surroundings.advance(by: .milliseconds(100))
        }
        #expect(log.lines.last?.message == "qdrant is away", "it lasts")
    }

    @Test("Reading ends no outage of writing", .timeLimit(.minutes(1)))
    func writes() {
        let outage = Outage(of: .sqlite, logger: log.logger, surroundings: surroundings)
        for _ in 0..<10 {
            outage.failed(.unavailable(.sqlite, "disk full"), writing: true)
            outage.succeeded(writing: false)
            surroundings.advance(by: .milliseconds(500))
        }
        #expect(log.lines.map(\.message) == ["sqlite is away"])
        outage.succeeded(writing: true)
        #expect(log.lines.map(\.message) == ["sqlite is away", "sqlite is back"])
    }

    @Test(
        "Work that goes on by itself says when it fails, and when it works again", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func backgroundWork(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            // A first opening makes the tables of an embedded world.
            try await world.withMemory { _ in }
            let plan = FaultPlan()
            try await world.withMemory(failingBy: plan, logger: log.logger, surroundings: surroundings) {
                memory async throws in
                // Each step of a look fails five times, and then works.
                for step in 1...12 {
                    for _ in 0..<5 {
                        plan.arm(at: step, .error)
                        await memory.outbox.look()
                        _ = plan.disarm()
                    }
                    await memory.outbox.look()
                    await memory.outbox.look()
                }
                for work in ["Erasing from short-term memory", "Telling the caches", "Reading the outbox"] {
                    let said = log.lines.map(\.message).filter { $0.hasPrefix(work) }
                    #expect(!said.isEmpty, "\(work)")
                    let pair = ["\(work) fails", "\(work) works again"]
                    #expect(said == (0..<said.count / 2).flatMap { _ in pair })
                }
                let comparing = Task { await memory.reconciler.run() }
                defer { comparing.cancel() }
                for (at, line) in [(1, "fails"), (1, "still fails"), (1_000_000, "works again")] {
                    plan.arm(at: at, .error)
                    try await world.eventually("it waits") { surroundings.sleepers == 1 }
                    // Sixty seconds at most are between two comparisons; a line a minute is said.
                    surroundings.advance(by: .seconds(61))
                    try await world.eventually(line) {
                        log.lines.last { $0.message.contains("with records") }?.message
                            == "Comparing vectors with records \(line)"
                    }
                }
                #expect(memory.reconciliationAge < .seconds(1))
                #expect(try await memory.outboxAge() == .zero)
            }
        }
    }

    @Test("The time of the oldest row that waits is known", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func outboxAge(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            try await world.withMemory { _ in }
            try await world.withMemory(failingBy: FaultPlan()) { memory async throws in
                let age = stores == .servers ? "now() - interval '1 hour'" : "1"
                try await world.execute(
                    """
                    INSERT INTO memory_outbox (collection, record_id, client_id, created_at) VALUES ('events', 1, 1, \(age))
                    """)
                #expect(try await memory.outboxAge() >= .seconds(3600))
            }
        }
    }
}
