import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore

/// Two PostgreSQL servers in one URL, of which one takes the other's place.
@Suite("PostgreSQL failovers")
struct PostgresFailoverTests {
    private static let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// Opens a memory on PostgreSQL servers in this order.
    private func with(
        _ ports: [Int], _ world: TestWorld, _ test: (Memory) async throws -> Void
    ) async throws {
        var configuration = world.configuration(postgres: ports)
        configuration.budgets = MemoryConfiguration.Budgets()
        let memory = try await Memory.open(configuration, logger: Self.silent)
        do {
            try await test(memory)
            await memory.close()
        } catch {
            await memory.close()
            throw error
        }
    }

    private func remembers(_ memory: Memory, _ content: String, _ world: TestWorld) async -> Bool {
        (try? await memory.remember(content, client: world.client)) != nil
    }

    @Test("11: a frozen primary is left for the standby that was promoted, and not taken back", .timeLimit(.minutes(5)))
    func frozen() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withStandby { standby async throws in
                let old = world.configuration.postgres.port
                try await with([old, standby.port], world) { memory async throws in
                    #expect(await remembers(memory, "before", world))
                    try await world.perform(.pause, .postgres)
                    try await standby.perform(.promote)
                    try await world.eventually("it writes again") { await remembers(memory, "after", world) }
                    try await world.perform(.resume, .postgres)
                    for number in 0..<20 { #expect(await remembers(memory, "awake \(number)", world)) }
                    #expect(await memory.isReady())
                    #expect(try await world.contents(old) == ["before"])
                    // Without the new one nothing is written: what the old one takes is lost.
                    try await standby.perform(.pause)
                    for number in 0..<5 { #expect(await !remembers(memory, "lost \(number)", world)) }
                    try await standby.perform(.resume)
                    try await world.eventually("it writes again") { await remembers(memory, "last", world) }
                    #expect(try await world.contents(old) == ["before"])
                    #expect(try await world.contents(standby.port).contains("last"))
                }
            }
        }
    }

    @Test("11: at the start the higher timeline wins, whoever answers first", .timeLimit(.minutes(5)))
    func oldPrimaryFirst() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withStandby { standby async throws in
                try await standby.perform(.promote)
                let old = world.configuration.postgres.port
                try await with([old, standby.port], world) { memory async throws in
                    for number in 0..<8 { #expect(await remembers(memory, "new \(number)", world)) }
                }
                #expect(try await world.contents(old).isEmpty)
                #expect(try await world.contents(standby.port).count == 8)
            }
        }
    }

    @Test("11: the primary dies, and its standby is written to once it is promoted", .timeLimit(.minutes(5)))
    func killed() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withStandby { standby async throws in
                try await with([world.configuration.postgres.port, standby.port], world) { memory async throws in
                    #expect(await remembers(memory, "before", world))
                    try await world.perform(.kill, .postgres)
                    #expect(await !remembers(memory, "between", world))
                    try await standby.perform(.promote)
                    try await world.eventually("it writes again") { await remembers(memory, "after", world) }
                    #expect(try await world.contents(standby.port) == ["before", "after"])
                }
            }
        }
    }

    @Test("A standby before the primary in the URL takes nothing", .timeLimit(.minutes(5)))
    func standbyFirst() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withStandby { standby async throws in
                try await with([standby.port, world.configuration.postgres.port], world) { memory async throws in
                    #expect(await memory.isReady())
                    for number in 0..<8 { #expect(await remembers(memory, "tea \(number)", world)) }
                }
            }
        }
    }

    @Test("A primary that takes no more writes is left, with all connections", .timeLimit(.minutes(5)))
    func readOnlyPrimary() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withStandby { standby async throws in
                let old = world.configuration.postgres.port
                try await with([old, standby.port], world) { memory async throws in
                    #expect(await remembers(memory, "before", world))
                    try await world.execute("ALTER SYSTEM SET default_transaction_read_only = on")
                    try await world.execute("SELECT pg_reload_conf()")
                    try await standby.perform(.promote)
                    try await world.eventually("it writes again") { await remembers(memory, "after", world) }
                    #expect(try await world.contents(standby.port) == ["before", "after"])
                    try await world.eventually("the old one is left") {
                        try await world.execute(
                            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'memory-gateway' AND pid <> pg_backend_pid()"
                        ) == [["0"]]
                    }
                }
            }
        }
    }

    @Test("11: a commit that waited on the old primary holds up nobody on the new one", .timeLimit(.minutes(5)))
    func waitingCommit() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            try await world.withStandby { standby async throws in
                try await with([world.configuration.postgres.port, standby.port], world) { memory async throws in
                    try await world.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                    try await world.execute("SELECT pg_reload_conf()")
                    try await world.eventually("commits wait for the standby") {
                        try await world.execute("SELECT sync_state FROM pg_stat_replication") == [["sync"]]
                    }
                    #expect(await remembers(memory, "before", world))
                    try await standby.perform(.stop)
                    // Ids of transactions that only the old one has given: each block within takes one, and all is undone.
                    _ = try? await world.execute(
                        """
                        DO $$ BEGIN
                            FOR i IN 1..5000 LOOP
                                BEGIN INSERT INTO plans (plan_title) VALUES ('x'); EXCEPTION WHEN data_exception THEN NULL; END;
                            END LOOP;
                            RAISE EXCEPTION 'undone';
                        END $$
                        """)
                    #expect(await !remembers(memory, "waits", world))
                    #expect(try await world.waitingCommits() == 1)
                    try await world.perform(.kill, .postgres)
                    try await standby.perform(.start)
                    try await standby.perform(.promote)
                    try await world.eventually("it writes again") { await remembers(memory, "after", world) }
                    #expect(try await world.contents(standby.port) == ["before", "after"])
                }
            }
        }
    }
}
