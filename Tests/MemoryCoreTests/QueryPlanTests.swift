import MemoryTestSupport
import Testing

@testable import MemoryCore

/// How PostgreSQL finds what it is asked for, when there is much of it.
@Suite("Query plans")
struct QueryPlanTests {
    /// A session that looks at the plan of each statement before it runs it: the plan for all values where the adapter
    /// prepares it once, else that for its values.
    private final class Explaining: SQLSession {
        let dialect = SQLDialect.postgres
        private let base: any SQLSession
        private(set) var plans: [(statement: String, plan: String)] = []

        init(_ base: any SQLSession) { self.base = base }

        func query(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> [SQLRow] {
            try explain(sql, values)
            return try base.query(sql, values)
        }

        func execute(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> Int {
            try explain(sql, values)
            return try base.execute(sql, values)
        }

        func script(_ sql: SQL) throws(MemoryError) { try base.script(sql) }

        private func explain(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) {
            let text = sql.text(.postgres)
            let name = "explained\(plans.count)"
            let mode = text.contains(" IS NULL OR ") ? "force_custom_plan" : "force_generic_plan"
            try base.script(SQL(unsafeText: "SET LOCAL plan_cache_mode = \(mode); PREPARE \(name) AS \(text)"))
            let literals = values.map { value in
                value.postgresText.map { "'\($0.replacing("'", with: "''"))'" } ?? "NULL"
            }
            let arguments = literals.isEmpty ? "" : "(\(literals.joined(separator: ", ")))"
            let rows = try base.query(SQL(unsafeText: "EXPLAIN EXECUTE \(name) \(arguments)"), [])
            plans.append((text, rows.compactMap { $0.optionalText(0) }.joined(separator: "\n")))
        }
    }

    /// Tables that grow with use, and are read in full by no statement of a request or of the work between them.
    private static let large = ["events", "memory_outbox", "document_chunks", "memory_history", "idempotency_keys"]

    /// A hundred thousand events, half of them one client's, and what comes with them.
    private func fill(_ world: TestWorld) async throws {
        for statement in [
            "INSERT INTO client_profiles (client_id, user_id) SELECT n, 'client-' || n FROM generate_series(1, 501) n",
            """
            INSERT INTO events (event_type, event_source, client_id, payload, metadata, created_at)
            SELECT CASE n % 50 WHEN 0 THEN 'agent_memory:fact' WHEN 1 THEN 'reflection' WHEN 2 THEN 'note'
                    ELSE 'memory:fact' END, 'test', CASE n % 2 WHEN 0 THEN 1 ELSE 2 + n % 500 END,
                jsonb_build_object('content', 'word' || n % 1000 || ' and word' || n % 777, 'memory_id', n::text, 'mode', 'daily')
                    || CASE n % 100 WHEN 3 THEN jsonb_build_object('expires_at', '2099-01-01T00:00:00Z') ELSE '{}' END,
                '{}', now() AT TIME ZONE 'utc' - n * interval '1 minute'
            FROM generate_series(1, 100000) n
            """,
            """
            INSERT INTO memory_outbox (collection, record_id, client_id, due_at, state)
            SELECT 'events', id, client_id, now() + interval '1 hour', CASE id % 100 WHEN 0 THEN 'dead' ELSE 'pending' END
            FROM events WHERE id % 2 = 0
            """,
            """
            INSERT INTO documents (client_id, doc_id, content, metadata, chunks)
            SELECT n % 500, 'd' || n, 'text', '{}', 50 FROM generate_series(1, 1000) n
            """,
            """
            INSERT INTO document_chunks (document_id, client_id, chunk_index, content)
            SELECT d.id, d.client_id, n, 'word' || n || ' of ' || d.id FROM documents d, generate_series(1, 50) n
            """,
            """
            INSERT INTO memory_history (event_id, version, content, tags, metadata)
            SELECT id, 1, 'before', '[]', '{}' FROM events WHERE id % 4 = 0
            """,
            """
            INSERT INTO idempotency_keys (client_id, key, request_hash)
            SELECT n % 500 + 1, 'key' || n, '\\x00' FROM generate_series(1, 50000) n
            """, "ANALYZE",
        ] { try await world.execute(statement) }
        // What autovacuum does in time: the counts may then trust their index.
        try await world.execute("VACUUM ANALYZE events")
    }

    /// Runs statements in a transaction that stores nothing, and answers how each is planned.
    private func plans(
        _ database: any SQLDatabase, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Void
    ) async throws -> [(statement: String, plan: String)] {
        let plans = Shared<[(statement: String, plan: String)]>([])
        let isOver = MemoryError(.conflict, "over")
        do {
            try await database.write(deadline: .after(.seconds(60))) { session throws(MemoryError) in
                let explaining = Explaining(session)
                try body(explaining)
                plans.value = explaining.plans
                throw isOver
            }
        } catch let error as MemoryError {
            guard error.message == isOver.message else { throw error }
        }
        return plans.value
    }

    @Test(
        "No statement of a request, or of the work between them, reads a large table in full", .timeLimit(.minutes(5)))
    func indexes() async throws {
        try await TestWorld.with { world async throws in
            try await fill(world)
            let database = try PostgresDatabase(world.configuration.postgres)
            let first = try await world.execute("SELECT min(id) FROM events")[0][0].flatMap { Int64($0) } ?? 0
            let statements = try await plans(database) { session throws(MemoryError) in
                try Self.records(session, first)
                try Self.log(session, first)
                try Self.outbox(session, first)
                try Self.documents(session)
            }
            #expect(statements.count > 40)
            Self.check(statements, Self.large)
            // Once a minute the outbox may be read in full: either it is short, or nothing is compared while it is not.
            let comparisons = try await plans(database) { session throws(MemoryError) in
                try Self.comparisons(session, first)
            }
            #expect(comparisons.count >= 12)
            Self.check(comparisons, Self.large.filter { $0 != "memory_outbox" })
            await database.close()
        }
    }

    private static func check(_ statements: [(statement: String, plan: String)], _ tables: [String]) {
        for (statement, plan) in statements {
            for table in tables where plan.contains("Seq Scan on \(table)") {
                Issue.record("\(table) is read in full:\n\(statement)\n\(plan)")
            }
        }
    }

    private static func records(_ session: any SQLSession, _ first: Int64) throws(MemoryError) {
        let events = EventRepository(session: session)
        let keys = (0..<20).map { RecordKey(id: first + 2 * $0, clientID: 1) }
        _ = try events.memories(keys)
        _ = try events.kinds([1, 2, 3])
        for client in [1, 7] {
            _ = try events.search(["word1", "word2"], clientID: client, filter: RecallFilter(), limit: 20)
            _ = try events.page(after: first + 50_000, of: .client(client), limit: 500)
            _ = try events.reflections(clientID: client, mode: .daily, page: PageRequest())
            _ = try events.history(RecordKey(id: first + 3, clientID: client))
        }
        _ = try events.suppliedEmbeddings(keys.map(\.id))
        _ = try events.deleteExpired(now: .now, limit: 200)
        for draft in [
            MemoryDraft(clientID: 7, content: "new"), MemoryDraft(clientID: 1, content: "new"),
        ] {
            var draft = draft
            draft.kind = .agentMemory(id: "\(draft.clientID == 1 ? 99_950 : 3)")
            _ = try events.replaceAgentMemory(draft)
        }
        _ = try events.insert([EventRepository.New(MemoryDraft(clientID: 7, content: "n"), now: .now)], lease: .zero)
        if let old = try events.locked(keys[2]) { _ = try events.replace(old, with: old, lease: .zero) }
        _ = try events.delete(keys[3], lease: .zero)
        let clients = ClientRepository(session: session)
        _ = try clients.hold([1, 2, 3])
        _ = try clients.enqueuePoints(of: 9, limit: 100)
        _ = try clients.erase(9)
        let idempotency = IdempotencyRepository(session: session)
        let key = IdempotencyRepository.Key(clientID: 7, key: "key6", requestHash: [0])
        _ = try idempotency.take(key)
        try idempotency.note(key, eventIDs: [1])
        try idempotency.answer(key, "[]")
        _ = try idempotency.sweep()
        _ = try KeyRepository(session: session).hashes()
    }

    private static func log(_ session: any SQLSession, _ first: Int64) throws(MemoryError) {
        let log = EventLogRepository(session: session)
        _ = try log.event(first, of: .client(1))
        let several = Owners(.only([1, 7]), includesShared: true)
        for owners in [Owners.client(1), .client(7), several, .anyone] {
            var filter = EventFilter(of: owners)
            _ = try log.list(filter, page: PageRequest())
            _ = try log.after(first + 99_000, upTo: first + 100_000, filter, limit: 200)
            filter.type = "note"
            _ = try log.list(filter, page: PageRequest())
        }
        _ = try log.sight()
        _ = try log.ids(after: first + 99_000, upTo: first + 99_200)
    }

    private static func outbox(_ session: any SQLSession, _ first: Int64) throws(MemoryError) {
        let outbox = OutboxRepository(session: session)
        var turn = 0
        let leases = try outbox.claim(limit: 64, lease: .seconds(30), turn: &turn)
        let held = (0..<64).map {
            OutboxRepository.Lease(
                collection: "events", key: RecordKey(id: first + 200 + 2 * $0, clientID: 1), fence: 1, attempts: 0,
                isStored: false, isShared: false, end: .after(.seconds(30)))
        }
        try outbox.complete(leases + held)
        _ = try outbox.enqueue(RecordKey(id: first, clientID: 1), in: .events, lease: .zero)
        try outbox.postpone([
            OutboxRepository.Failure(
                lease: held[0], error: "x", delay: .zero, counts: true, isDead: false, isStored: false)
        ])
    }

    private static func comparisons(_ session: any SQLSession, _ first: Int64) throws(MemoryError) {
        let truth = ReconciliationRepository(session: session)
        for collection in VectorCollection.all {
            _ = try truth.counts(collection)
            _ = try truth.settled(collection, after: first + 1000, limit: 1000)
            _ = try truth.existing((0..<1000).map { first + $0 }, collection)
        }
    }

    private static func documents(_ session: any SQLSession) throws(MemoryError) {
        let documents = DocumentRepository(session: session)
        _ = try documents.list(owners: [7, 0], page: PageRequest())
        _ = try documents.document("d7", owners: [7, 0])
        _ = try documents.chunks((1...20).map { RecordKey(id: $0, clientID: 7) })
        _ = try documents.search(["word7"], owners: [7, 0], documentID: nil, limit: 3)
        let draft = DocumentDraft(id: "d7", owner: .client(7), content: "new")
        let staging = try documents.stage(draft, generation: 99, isKept: true)
        let ids = try documents.insert(["a", "b"], into: staging)
        _ = try documents.publish(draft, chunks: ids, of: staging, delivered: 2, lease: .zero)
        _ = try documents.delete("d7", clientID: 7, lease: .zero)
        _ = try documents.sweepRemnants()
    }
}
