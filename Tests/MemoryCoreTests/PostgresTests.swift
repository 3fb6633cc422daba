import Dispatch
import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Postgres")
struct PostgresTests {
    private func database(_ world: TestWorld, connections: Int = 2) throws -> PostgresDatabase {
        var configuration = world.configuration.postgres
        configuration.connections = connections
        return try PostgresDatabase(configuration)
    }

    private var soon: Deadline { .after(.seconds(10)) }

    @Test(
        "A conflict is tried again until the deadline, and the transaction then counts", .timeLimit(.minutes(5)),
        arguments: ["40001", "40P01"])
    func conflicts(_ state: String) async throws {
        try await TestWorld.with { world async throws in
            let database = try database(world)
            let tries = Shared(0)
            let conflict = SQL(unsafeText: "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '\(state)'; END $$")
            try await database.write(deadline: soon) { session throws(MemoryError) in
                try session.execute("INSERT INTO client_profiles (client_id, user_id) VALUES ($1, 'x')", [.int(1)])
                if tries.withLock({ tries in
                    tries += 1; return tries
                }) < 8 {
                    try session.script(conflict)
                }
            }
            #expect(tries.value == 8)
            #expect(try await world.execute("SELECT count(*) FROM client_profiles") == [["1"]])
            let error = await #expect(throws: MemoryError.self) {
                try await database.write(deadline: .after(.milliseconds(100))) { session throws(MemoryError) in
                    try session.script(conflict)
                }
            }
            #expect(error?.outcome == .notStored)
            await database.close()
        }
    }

    @Test("Values come back as they went", .timeLimit(.minutes(5)))
    func values() async throws {
        try await TestWorld.with { world async throws in
            let database = try database(world)
            let row = try await database.read(deadline: soon) { session throws(MemoryError) in
                try session.query(
                    "SELECT $1::int, $2::text, $3::bytea, $4::int[], $5::text[], $6::float8, $7::text",
                    [
                        .int(-7), .text("naïve \"quoted\" \\ {x} 😀"), .bytes([0, 255, 0x5C, 0x27]), .ints([1, -2]),
                        .texts(["a,b", "c\"d", "\\", nil, ""]), .double(0.1), .null,
                    ]
                )[0]
            }
            #expect(try row.int(0) == -7)
            #expect(try row.text(1) == "naïve \"quoted\" \\ {x} 😀")
            #expect(try row.bytes(2) == [0, 255, 0x5C, 0x27])
            #expect(try row.text(3) == "{1,-2}")
            #expect(try row.text(4) == #"{"a,b","c\"d","\\",NULL,""}"#)
            #expect(try row.text(5) == "0.1")
            #expect(row.isNull(6))
            #expect(throws: MemoryError.self) { try row.int(1) }
            await database.close()
        }
    }

    @Test(
        "A prepared plan from when the table was empty does not stay: lists are planned for their values",
        .timeLimit(.minutes(5)))
    func plans() async throws {
        try await TestWorld.with { world async throws in
            let database = try database(world, connections: 1)
            let prepared = try await database.read(deadline: soon) { session throws(MemoryError) in
                // Six times: from the sixth on PostgreSQL may use a plan for all values.
                for _ in 0..<6 {
                    _ = try EventLogRepository(session: session).list(EventFilter(of: .anyone), page: PageRequest())
                    _ = try EventRepository(session: session).memories([RecordKey(id: 1, clientID: 1)])
                }
                return try session.query("SELECT statement FROM pg_prepared_statements", [])
                    .map { row throws(MemoryError) in try row.text(0) }
            }
            #expect(prepared.contains { $0.contains("LATERAL") })
            #expect(!prepared.contains { $0.contains("IS NULL OR") })
        }
    }

    @Test("A failed transaction leaves nothing, and its connection goes on", .timeLimit(.minutes(5)))
    func rollback() async throws {
        try await TestWorld.with { world async throws in
            let database = try database(world, connections: 1)
            let error = await #expect(throws: MemoryError.self) {
                try await database.write(deadline: soon) { session throws(MemoryError) in
                    try session.execute("INSERT INTO plans (plan_title) VALUES ('x')", [])
                    try session.execute("INSERT INTO plans (status) VALUES ('impossible')", [])
                }
            }
            #expect(error?.code == .invalidRequest)
            #expect(error?.driverCode == "23514")
            #expect(error?.outcome == .notStored)
            #expect(try await world.execute("SELECT count(*) FROM plans") == [["0"]])
            try await database.write(deadline: soon) { session throws(MemoryError) in
                try session.execute("INSERT INTO plans (plan_title) VALUES ('y')", [])
            }
            #expect(try await world.execute("SELECT plan_title FROM plans") == [["y"]])
            await database.close()
        }
    }

    @Test("Two transactions that conflict both succeed, one of them at its second try", .timeLimit(.minutes(5)))
    func conflict() async throws {
        try await TestWorld.with { world async throws in
            try await world.execute("INSERT INTO plans (id, plan_title) VALUES (1, '0')")
            let name = world.configuration.postgres.database
            try await world.execute("ALTER DATABASE \(name) SET default_transaction_isolation = 'repeatable read'")
            let database = try database(world)
            @Sendable func increment() async throws {
                try await database.write(deadline: soon) { session throws(MemoryError) in
                    let title = try session.query("SELECT plan_title FROM plans WHERE id = 1", [])[0].int(0)
                    try session.execute("UPDATE plans SET plan_title = $1 WHERE id = 1", [.text("\(title + 1)")])
                }
            }
            for _ in 0..<5 {
                async let first: Void = increment()
                async let second: Void = increment()
                _ = try await (first, second)
            }
            #expect(try await world.execute("SELECT plan_title FROM plans") == [["10"]])
            await database.close()
        }
    }

    @Test("A transaction whose commit was refused is known not to be stored", .timeLimit(.minutes(5)))
    func lostCommit() async throws {
        try await TestWorld.with { world async throws in
            let database = try database(world)
            // At COMMIT the server ends this very session, so its answer never comes.
            try await world.execute(
                """
                CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$
                """)
            try await world.execute(
                """
                CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON plans DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION end_session()
                """)
            let error = await #expect(throws: MemoryError.self) {
                try await database.write(deadline: soon) { session throws(MemoryError) in
                    try session.execute("INSERT INTO plans (plan_title) VALUES ('x')", [])
                }
            }
            #expect(error?.outcome == .notStored)
            #expect(try await world.execute("SELECT count(*) FROM plans") == [["0"]])
            await database.close()
        }
    }

    @Test(
        "2: after a crash another transaction has the id of a lost one: that it was committed proves nothing",
        .timeLimit(.minutes(5)))
    func reusedTransactionID() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            let database = try database(world)
            let insertion: SQL = "INSERT INTO plans (plan_title) VALUES ($1) RETURNING pg_current_xact_id()::text"
            /// Crashes the server, and writes until the id is given again and committed.
            @Sendable func crash(_ id: Int64?) async throws {
                try await world.perform(.kill, .postgres)
                try await world.perform(.start, .postgres)
                var last: Int64 = 0
                while let id, last < id {
                    let rows = try await world.execute(
                        "INSERT INTO plans (plan_title) VALUES ('other') RETURNING pg_current_xact_id()::text")
                    last = try #require(rows[0][0].flatMap { Int64($0) })
                }
            }
            let error = await #expect(throws: MemoryError.self) {
                try await database.write(deadline: .after(.seconds(30))) { session throws(MemoryError) in
                    let id = Int64(try session.query(insertion, [.text("lost")])[0].text(0))
                    let done = DispatchSemaphore(value: 0)
                    Task {
                        defer { done.signal() }
                        try await crash(id)
                    }
                    done.wait()
                }
            }
            #expect(error?.outcome == .unknown)
            let titles = try await world.execute("SELECT DISTINCT plan_title FROM plans")
            #expect(titles == [["other"]])
            await database.close()
        }
    }

    @Test("A statement ends at its deadline, and a later one is served", .timeLimit(.minutes(5)))
    func deadline() async throws {
        try await TestWorld.with { world async throws in
            let database = try database(world, connections: 1)
            let start = ContinuousClock.now
            let error = await #expect(throws: MemoryError.self) {
                try await database.read(deadline: .after(.milliseconds(200))) { session throws(MemoryError) in
                    try session.query("SELECT pg_sleep(60)", [])
                }
            }
            #expect(error?.code == .timeout)
            #expect(ContinuousClock.now - start < .seconds(20))
            let rows = try await database.read(deadline: soon) { session throws(MemoryError) in
                try session.query("SELECT 1", [])
            }
            #expect(rows.count == 1)
            await database.close()
        }
    }

    @Test("Connections that the server ended are replaced, and nobody notices", .timeLimit(.minutes(5)))
    func staleConnections() async throws {
        try await TestWorld.with { world async throws in
            let database = try database(world, connections: 2)
            @Sendable func insert() async throws {
                try await database.write(deadline: soon) { session throws(MemoryError) in
                    try session.execute("INSERT INTO plans (plan_title) VALUES ('x')", [])
                }
            }
            for round in 1...5 {
                try await insert()
                try await world.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                try await insert()
                #expect(try await world.execute("SELECT count(*) FROM plans") == [["\(round * 2)"]])
            }
            await database.close()
        }
    }

    @Test("A frozen server costs its deadline and no more, and serves again after", .timeLimit(.minutes(5)))
    func frozen() async throws {
        try await TestWorld.with(own: [.postgres]) { world async throws in
            let database = try database(world, connections: 1)
            @Sendable func ask(_ deadline: Deadline) async throws -> Int {
                try await database.read(deadline: deadline) { session throws(MemoryError) in
                    try session.query("SELECT 1", []).count
                }
            }
            #expect(try await ask(soon) == 1)
            try await world.perform(.pause, .postgres)
            let error = await #expect(throws: MemoryError.self) { try await ask(.after(.milliseconds(300))) }
            #expect(error?.code == .timeout)
            try await world.perform(.resume, .postgres)
            try await world.eventually("it serves again") { (try? await ask(soon)) == 1 }
            await database.close()
        }
    }

    @Test(
        "A wrong password, role or database is not ready, and says nothing of the password",
        arguments: [
            ("postgres", "nobody"), ("nowhere", "postgres"),
        ])
    func refused(_ database: String, _ user: String) async throws {
        try await TestWorld.with { world async throws in
            var configuration = world.configuration.postgres
            (configuration.database, configuration.user) = (database, user)
            configuration.password = Secret("hunter2")
            let pool = try PostgresDatabase(configuration)
            let error = await #expect(throws: MemoryError.self) {
                try await pool.read(deadline: soon) { session throws(MemoryError) in try session.query("SELECT 1", []) }
            }
            #expect(error?.code == .unavailable)
            #expect(error?.isRetriable == false)
            #expect(error?.debugDescription.contains("hunter2") == false)
            await pool.close()
        }
    }

    @Test("A read-only server takes no writes, and is taken for one that is away", .timeLimit(.minutes(5)))
    func readOnly() async throws {
        try await TestWorld.with { world async throws in
            let database = try database(world)
            try await world.execute(
                "ALTER ROLE postgres IN DATABASE \(world.configuration.postgres.database) SET default_transaction_read_only = on"
            )
            let error = await #expect(throws: MemoryError.self) {
                try await database.write(deadline: soon) { session throws(MemoryError) in
                    try session.execute("INSERT INTO plans (plan_title) VALUES ('x')", [])
                }
            }
            #expect(error?.code == .unavailable)
            #expect(error?.driverCode == "25006")
            await database.close()
        }
    }
}
