import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore

/// What is said of a commit when the standby that it should reach is not there, and of ids when there are no more.
@Suite("Commits without their standby")
struct CommitFailoverTests {
    private static let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// The error of a remember; nil when it was acknowledged.
    private func failure(_ memory: Memory, _ content: String, _ world: TestWorld) async -> MemoryError? {
        do throws(MemoryError) {
            try await memory.remember(content, client: world.client)
            return nil
        } catch {
            return error
        }
    }

    @Test(
        "11: a commit whose wait for the standby somebody ended is unknown, never acknowledged",
        .timeLimit(.minutes(5)),
        arguments: ["pg_cancel_backend", "pg_terminate_backend"])
    func endedWait(_ end: String) async throws {
        try await TestWorld.with(own: [.postgres], configure: { $0.budgets.transaction = .seconds(3) }) {
            world async throws in
            try await world.withMemory { memory async throws in
                try await memory.remember("before", client: world.client)
                try await world.loseStandby()
                async let failure = failure(memory, "cancelled", world)
                try await world.eventually("a commit waits") { try await world.waitingCommits() > 0 }
                try await world.execute(
                    "SELECT \(end)(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
                let error = await failure
                #expect(error?.outcome == .unknown)
                try await world.forgetStandby()
                try await world.eventually("it serves") { await self.failure(memory, "after", world) == nil }
            }
        }
    }

    @Test(
        "11: a commit that waits for its standby is left after its time, and no other waits behind it",
        .timeLimit(.minutes(5)))
    func endlessWait() async throws {
        try await TestWorld.with(own: [.postgres], configure: { $0.budgets.transaction = .seconds(1) }) {
            world async throws in
            try await world.withMemory { memory async throws in
                let kept = try await memory.remember("before", client: world.client).memoryID
                try await world.loseStandby()
                #expect(await failure(memory, "first", world)?.outcome == .unknown)
                for number in 0..<3 {
                    #expect(await failure(memory, "later \(number)", world)?.outcome == .notStored)
                }
                // Nothing was cancelled, and the server is not filled with commits that wait.
                #expect(try await world.waitingCommits() == 1)
                #expect(try await memory.memory(kept, client: world.client).content == "before")
                try await world.forgetStandby()
                try await world.eventually("it serves") { await failure(memory, "after", world) == nil }
                let port = world.configuration.postgres.port
                #expect(try await world.contents(port) == ["before", "first", "after"])
            }
        }
    }

    @Test("A first start opens while the standby is missing, and is ready once it is not", .timeLimit(.minutes(5)))
    func firstStart() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            var configuration = world.configuration
            try await world.execute("CREATE DATABASE fresh")
            configuration.postgres.database = "fresh"
            try await world.loseStandby()
            let opened = Shared<Memory?>(nil)
            let opening = Task { [configuration] in
                opened.value = try await Memory.open(configuration, logger: Self.silent)
            }
            try await world.eventually("it opens") { opened.value != nil }
            let memory = try #require(opened.value)
            #expect(await memory.isReady() == false)
            #expect(await failure(memory, "early", world)?.outcome == .notStored)
            try await world.forgetStandby()
            try await world.eventually("it is ready") { await memory.isReady() }
            try await world.eventually("it serves") { await failure(memory, "tea", world) == nil }
            await memory.close()
            try await opening.value
        }
    }

    @Test("The last id is given, and then it is said that there are no more", .timeLimit(.minutes(5)))
    func lastID() async throws {
        try await TestWorld.with { world async throws in
            try await world.execute("ALTER SEQUENCE events_id_seq RESTART WITH 2147483647")
            try await world.withMemory { memory async throws in
                #expect(try await memory.remember("last", client: world.client).memoryID == 2_147_483_647)
                let error = await failure(memory, "one more", world)
                #expect(error?.code.description == "ids_exhausted")
                #expect(error?.isRetriable == false && error?.outcome == .notStored)
                #expect(try await memory.memory(2_147_483_647, client: world.client).content == "last")
            }
        }
    }
}

@Suite("The fate of a commit")
struct CommitFateTests {
    @Test(
        "2: committed counts in the same life, aborted of a primary alone",
        arguments: [
            ("committed", "1", false, CommitFate.Verdict.committed), ("committed", "2", false, .unknown),
            ("committed", nil, false, .unknown), ("committed", "1", true, .unknown), ("aborted", "1", false, .aborted),
            ("aborted", "2", false, .aborted), ("aborted", "1", true, .unknown),
            ("in progress", "1", false, .inProgress),
            (nil, "1", false, .unknown),
        ] as [(String?, String?, Bool, CommitFate.Verdict)])
    func verdict(_ status: String?, _ life: String?, _ isStandby: Bool, _ verdict: CommitFate.Verdict) {
        let fate = CommitFate(status: status, life: life, isStandby: isStandby, isReplicated: false)
        #expect(fate.verdict(life: "1") == verdict)
    }
}
