@testable package import MemoryCore

/// Pairs of servers, of which one takes the other's place.
extension TestWorld {
    /// A standby of this world's own PostgreSQL.
    package struct Standby: Sendable {
        package let name: TestServers.Name
        package let port: Int

        package func perform(_ verb: TestServers.Verb) async throws {
            try await TestServers.shared.perform(verb, name)
        }
    }

    /// Runs a test with a standby that follows this world's own PostgreSQL.
    package func withStandby(_ test: (Standby) async throws -> Void) async throws {
        guard let primary = servers[.postgres] else { throw TestServers.Failure(description: "PostgreSQL is shared") }
        let name = TestServers.Name.postgres.own
        let standby = Standby(name: name, port: try await TestServers.shared.perform(.follow, name, of: primary))
        do {
            try await eventually("the standby follows") {
                try await execute("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == [["1"]]
            }
            try await test(standby)
        } catch {
            try await standby.perform(.kill)
            throw error
        }
        try await standby.perform(.kill)
    }

    /// The settings with these ports of this machine in one URL, in this order.
    package func configuration(postgres ports: [Int]) -> MemoryConfiguration {
        var configuration = configuration
        let hosts = ports.map { "127.0.0.1:\($0)" }.joined(separator: ",")
        configuration.postgres.url = Secret("postgres://postgres@\(hosts)/\(configuration.postgres.database)")
        return configuration
    }

    /// The texts of the memories that the PostgreSQL at a port has.
    package func contents(_ port: Int) async throws -> Set<String> {
        var configuration = configuration.postgres
        configuration.port = port
        let rows = try await Self.execute("SELECT payload ->> 'content' FROM events", configuration)
        return Set(rows.compactMap { $0[0] })
    }

    /// Runs a statement on the server's own database, whatever was set for this world's.
    package func administrate(_ sql: String) async throws {
        var configuration = configuration.postgres
        configuration.database = "postgres"
        _ = try await Self.execute(sql, configuration)
    }

    /// From now on commits wait for a standby that is not there.
    package func loseStandby() async throws {
        try await execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
        try await execute("SELECT pg_reload_conf()")
        // The server's own processes take the setting over one by one; the checkpointer is the one that counts.
        try await eventually("commits wait") {
            try await execute("SHOW synchronous_standby_names") == [["absent"]]
        }
    }

    /// From now on commits wait for nobody, and those that waited are done.
    package func forgetStandby() async throws {
        try await execute("ALTER SYSTEM RESET synchronous_standby_names")
        try await execute("SELECT pg_reload_conf()")
    }

    /// How many commits wait for a standby.
    package func waitingCommits() async throws -> Int {
        let rows = try await execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        return rows[0][0].flatMap { Int($0) } ?? 0
    }

    /// Says something to the Valkey server at a port, as an operator would.
    @discardableResult
    package func valkey(_ port: Int, _ words: String...) throws -> ValkeyReply {
        let handle = try ValkeyHandle.open(host: "127.0.0.1", port: port, deadline: .after(.seconds(10)))
        return try handle.run([words.map { Array($0.utf8) }], deadline: .after(.seconds(10)))[0]
    }
}
