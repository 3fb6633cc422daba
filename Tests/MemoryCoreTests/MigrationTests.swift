import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Migrations")
struct MigrationTests {
    /// An empty database.
    private func withEmptyDatabase(_ test: (PostgresDatabase, TestWorld) async throws -> Void) async throws {
        try await TestWorld.with { world async throws in
            let name = "empty_\(world.client)"
            try await world.execute("CREATE DATABASE \(name)")
            var world = world
            world.configuration.postgres.database = name
            let database = try PostgresDatabase(world.configuration.postgres)
            try await test(database, world)
            await database.close()
        }
    }

    private func run(
        _ database: PostgresDatabase, _ files: [BundledFile] = BundledFiles.migrations, dryRun: Bool = false
    ) async throws(MemoryError) -> [String] {
        try await Migrator(database: database, files: files).run(dryRun: dryRun, deadline: .after(.seconds(60)))
            .map(\.state.rawValue)
    }

    @Test("Each file is applied once; a dry run changes nothing", .timeLimit(.minutes(5)))
    func once() async throws {
        try await withEmptyDatabase { database, world async throws in
            let count = BundledFiles.migrations.count
            #expect(try await run(database, dryRun: true) == Array(repeating: "pending", count: count))
            #expect(try await world.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [["0"]])
            #expect(try await run(database) == Array(repeating: "applied", count: count))
            #expect(try await run(database) == Array(repeating: "present", count: count))
            #expect(
                try await world.execute("SELECT name FROM schema_migrations ORDER BY name")
                    == BundledFiles.migrations.map { [$0.name] })
        }
    }

    @Test("Many gateways that start at once apply each file once", .timeLimit(.minutes(5)))
    func concurrent() async throws {
        try await withEmptyDatabase { database, _ async throws in
            let states = try await withThrowingTaskGroup(of: [String].self) { group in
                for _ in 0..<4 { group.addTask { try await run(database) } }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(states.count { $0 == "applied" } == BundledFiles.migrations.count)
        }
    }

    @Test("An edited, unknown or reordered history is refused by name", .timeLimit(.minutes(5)))
    func history() async throws {
        try await withEmptyDatabase { database, _ async throws in
            let first = BundledFile(name: "001_a.sql", text: "CREATE TABLE a (id int)")
            let third = BundledFile(name: "003_c.sql", text: "CREATE TABLE c (id int)")
            _ = try await run(database, [first, third])
            let wrong: [(files: [BundledFile], named: String)] = [
                ([BundledFile(name: first.name, text: first.text + " "), third], "001_a.sql was changed"),
                ([first], "003_c.sql was applied"),
                ([first, BundledFile(name: "002_b.sql", text: "SELECT 1"), third], "002_b.sql is missing"),
            ]
            for (files, named) in wrong {
                let error = await #expect(throws: MemoryError.self) { try await run(database, files) }
                #expect(error?.code == .configuration)
                #expect(error?.message.contains(named) == true)
            }
        }
    }

    @Test("A file that fails leaves nothing of itself, and what came before it", .timeLimit(.minutes(5)))
    func failing() async throws {
        try await withEmptyDatabase { database, world async throws in
            let files = [
                BundledFile(name: "001_a.sql", text: "CREATE TABLE a (id int)"),
                BundledFile(name: "002_b.sql", text: "CREATE TABLE b (id int); SELECT nonsense"),
            ]
            let error = await #expect(throws: MemoryError.self) { try await run(database, files) }
            #expect(error?.message == "Migration 002_b.sql failed")
            #expect(
                try await world.execute("SELECT to_regclass('a') IS NOT NULL, to_regclass('b') IS NULL") == [
                    ["t", "t"]
                ])
        }
    }

    @Test("A client_profiles that is there stays as it is", .timeLimit(.minutes(5)))
    func existingClients() async throws {
        try await withEmptyDatabase { database, world async throws in
            try await world.execute(
                "CREATE TABLE client_profiles (client_id SERIAL PRIMARY KEY, user_id TEXT UNIQUE NOT NULL, plan TEXT)")
            try await world.execute("INSERT INTO client_profiles (user_id, plan) VALUES ('ada', 'gold')")
            _ = try await run(database)
            #expect(try await world.execute("SELECT * FROM client_profiles") == [["1", "ada", "gold"]])
        }
    }

    // MARK: The schema of the specification

    @Test(
        "Each table has the columns and types of the specification",
        arguments: [
            (
                "events",
                "id integer,event_type varchar(100),event_source varchar(50),client_id integer,payload jsonb,metadata jsonb,created_at timestamp"
            ),
            (
                "plans",
                "id integer,plan_title varchar(500),intent text,sop jsonb,client_id integer,status varchar(20),metadata jsonb,created_at timestamp,updated_at timestamp"
            ),
            (
                "scheduler_runs",
                "id integer,plan_id integer,schedule_blocks jsonb,client_id integer,status varchar(20),metadata jsonb,created_at timestamp"
            ),
            (
                "graph_nodes",
                "id integer,node_type varchar(50),node_id varchar(255),properties jsonb,created_at timestamp,updated_at timestamp"
            ),
            (
                "graph_edges",
                "id integer,from_node_id varchar(255),to_node_id varchar(255),edge_type varchar(50),properties jsonb,created_at timestamp"
            ),
            (
                "execution_runs",
                "id integer,run_id varchar(100),run_type varchar(20),workflow_id varchar(255),process_template_id varchar(255),task_id varchar(255),project_id varchar(255),engagement_id varchar(255),executed_by_person_id varchar(255),started_at timestamp,ended_at timestamp,actual_hours numeric(5,2),outcome_notes text,metadata jsonb,created_at timestamp"
            ),
            (
                "prompt_templates",
                "id integer,template_name varchar(100),template_type varchar(50),content text,version varchar(20),metadata jsonb,created_at timestamp"
            ),
            (
                "client_profiles",
                "client_id integer,user_id text,full_name text,email text,tags jsonb,metadata jsonb,created_at timestamp,updated_at timestamp"
            ),
        ])
    func columns(_ table: String, _ expected: String) async throws {
        try await TestWorld.with { world async throws in
            let rows = try await world.execute(
                """
                SELECT string_agg(attname || ' ' || replace(replace(format_type(atttypid, atttypmod),
                    'character varying', 'varchar'), ' without time zone', ''), ',' ORDER BY attnum)
                FROM pg_attribute WHERE attrelid = '\(table)'::regclass AND attnum > 0 AND NOT attisdropped
                """)
            #expect(rows == [[expected]])
        }
    }

    @Test(
        "Each index of the specification is there",
        arguments: [
            ("events", ["(event_type)", "(event_source)", "(created_at DESC)"]),
            ("plans", ["(client_id)", "(status)"]),
            (
                "execution_runs",
                ["(task_id)", "(project_id)", "(process_template_id)", "(run_type)", "(started_at DESC)"]
            ),
        ])
    func indexes(_ table: String, _ expected: [String]) async throws {
        try await TestWorld.with { world async throws in
            let definitions = try await world.execute("SELECT indexdef FROM pg_indexes WHERE tablename = '\(table)'")
                .compactMap { $0[0] }
            for columns in expected { #expect(definitions.contains { $0.hasSuffix(columns) }, "\(columns)") }
        }
    }

    @Test(
        "What the constraints forbid is refused",
        arguments: [
            "INSERT INTO plans (status) VALUES ('done')", "INSERT INTO execution_runs (run_type) VALUES ('process')",
            "INSERT INTO events (client_id) VALUES (2000000000)",
            "INSERT INTO scheduler_runs (plan_id) VALUES (2000000000)",
            "INSERT INTO graph_edges (from_node_id, to_node_id) VALUES ('none', 'none')",
            "INSERT INTO graph_nodes (node_id) VALUES ('a'), ('a')",
            "INSERT INTO execution_runs (run_id) VALUES ('a'), ('a')",
            "INSERT INTO prompt_templates (template_name) VALUES ('a'), ('a')",
            "WITH n AS (INSERT INTO graph_nodes (node_id) VALUES ('x'), ('y')) INSERT INTO graph_edges (from_node_id, to_node_id, edge_type) VALUES ('x', 'y', 'e'), ('x', 'y', 'e')",
        ])
    func constraints(_ statement: String) async throws {
        try await TestWorld.with { world async throws in
            await #expect(throws: MemoryError.self) { try await world.execute(statement) }
        }
    }

    @Test("Defaults are those of the specification")
    func defaults() async throws {
        try await TestWorld.with { world async throws in
            #expect(
                try await world.execute("INSERT INTO plans (plan_title) VALUES ('x') RETURNING status") == [["draft"]])
            #expect(
                try await world.execute("INSERT INTO scheduler_runs (plan_id) SELECT id FROM plans RETURNING status")
                    == [["scheduled"]])
            try await world.execute("DELETE FROM plans")
            #expect(try await world.execute("SELECT count(*) FROM scheduler_runs") == [["0"]])
        }
    }

    @Test("Five templates are seeded, each at v1 and worth using")
    func templates() async throws {
        try await TestWorld.with { world async throws in
            let rows = try await world.execute(
                "SELECT template_name, template_type, version, length(content) > 1000 FROM prompt_templates ORDER BY template_name"
            )
            #expect(
                rows
                    == [
                        "daily_reflection", "schedule_optimizer", "sop_generator", "sop_generator_manifold",
                        "weekly_review",
                    ].map { [$0, "system", "v1", "t"] })
            let metadata = try await world.execute(
                "SELECT metadata::text FROM prompt_templates WHERE template_name = 'sop_generator_manifold'")
            #expect(
                try JSON.parse(Array((metadata[0][0] ?? "").utf8)) == [
                    "analysis_scope": "full", "gentleness": "balanced", "math_depth": "operational",
                    "position_awareness": true, "option_count": 3,
                ])
        }
    }

    @Test("get_graph_neighbors gives both directions")
    func neighbours() async throws {
        try await TestWorld.with { world async throws in
            try await world.execute("INSERT INTO graph_nodes (node_id) VALUES ('a'), ('b'), ('c')")
            try await world.execute(
                "INSERT INTO graph_edges (from_node_id, to_node_id, edge_type) VALUES ('a', 'b', 'uses'), ('c', 'a', 'owns')"
            )
            let rows = try await world.execute(
                "SELECT neighbor_id, edge_type, direction FROM get_graph_neighbors('a') ORDER BY 1")
            #expect(rows == [["b", "uses", "outgoing"], ["c", "owns", "incoming"]])
        }
    }

    @Test("Execution runs answer what a pattern costs, and how far it is from its estimate")
    func executionRuns() async throws {
        try await TestWorld.with { world async throws in
            try await world.execute(
                """
                INSERT INTO execution_runs (run_id, run_type, process_template_id, task_id, actual_hours, metadata) VALUES
                ('r1', 'Process', 'coda:t-1', 'coda:task-123', 2.5, '{"estimated_hours": 2}'),
                ('r2', 'Touchpoint', 'coda:t-1', 'coda:task-124', 3.5, '{"estimated_hours": 2}')
                """)
            let rows = try await world.execute(
                """
                SELECT round(avg(actual_hours), 2), round(avg(actual_hours / (metadata ->> 'estimated_hours')::numeric - 1), 2)
                FROM execution_runs WHERE process_template_id = 'coda:t-1'
                """)
            #expect(rows == [["3.00", "0.50"]])
        }
    }
}
