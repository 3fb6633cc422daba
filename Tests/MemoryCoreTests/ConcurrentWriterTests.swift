import Foundation
import MemoryTestSupport
import Testing

@testable import MemoryCore

/// Sixteen writers at once, for every kind of write that reads first or locks several rows: none is lost, none fails, and
/// PostgreSQL never has to end a deadlock.
@Suite("Concurrent writers")
struct ConcurrentWriterTests {
    /// Runs the test with as many connections as there are writers.
    private func with(_ stores: StoreSet, _ test: (Memory, TestWorld) async throws -> Void) async throws {
        try await TestWorld.with(stores, configure: { $0.postgres.connections = 16 }) { world async throws in
            try await world.withMemory { memory async throws in try await test(memory, world) }
            guard stores == .servers else { return }
            // The connections have ended, and with that reported what they counted.
            let deadlocks = try await world.execute(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            #expect(deadlocks == [["0"]])
        }
    }

    /// Runs sixteen tasks at once; each has dice of its own.
    private func sixteen(
        _ write: @escaping @Sendable (_ writer: Int, _ dice: inout SeededGenerator) async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<16 {
                group.addTask {
                    var dice = SeededGenerator(seed: UInt64(writer) + 1)
                    do {
                        try await write(writer, &dice)
                    } catch let error as MemoryError {
                        Issue.record("writer \(writer): \(error.debugDescription)")
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    /// What was deleted by another is nothing to complain of.
    private func unlessGone(_ body: () async throws -> Void) async throws {
        do {
            try await body()
        } catch let error as MemoryError {
            guard error.code == .notFound else { throw error }
        }
    }

    // MARK: Graph and runs

    @Test(
        "Graph batches with the same nodes and edges in any order, and deletions among them", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func graph(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            let names = (0..<40).map { "coda:task-\($0)" }
            let ring = zip(names, names.dropFirst() + names.prefix(1)).map {
                GraphEdge(from: $0.0, to: $0.1, type: "next")
            }
            try await sixteen { writer, dice in
                for round in 0..<8 {
                    if writer % 8 == 7 {
                        try await unlessGone { try await memory.deleteNode(names[round * 5]) }
                        try await unlessGone { try await memory.deleteEdge(ring[round * 3]) }
                        continue
                    }
                    let nodes = names.shuffled(using: &dice).map {
                        GraphNode(id: $0, type: "task", properties: ["by": .string("\(writer)/\(round)")])
                    }
                    let edges = ring.shuffled(using: &dice)
                    let (storedNodes, storedEdges) = try await memory.putGraph(nodes: nodes, edges: edges)
                    // The answer is in the order of the request.
                    #expect(storedNodes.map(\.id) == nodes.map(\.id))
                    #expect(storedEdges.map(\.from) == edges.map(\.from))
                    #expect(storedNodes.allSatisfy { $0.properties["by"]?.string == "\(writer)/\(round)" })
                }
            }
            _ = try await memory.putGraph(nodes: names.map { GraphNode(id: $0, type: "task") }, edges: ring)
            #expect(try await world.execute("SELECT count(*) FROM graph_nodes") == [["40"]])
            #expect(try await world.execute("SELECT count(*) FROM graph_edges") == [["40"]])
        }
    }

    @Test(
        "While graph batches are written, the memories of others are remembered", .timeLimit(.minutes(5)))
    func graphBesideOthers() async throws {
        try await with(.servers) { memory, world async throws in
            let nodes = (0..<200).map { GraphNode(id: "n\($0)", type: "task") }
            try await sixteen { writer, dice in
                for _ in 0..<10 {
                    if writer < 8 {
                        _ = try await memory.putGraph(nodes: nodes.shuffled(using: &dice), edges: [])
                    } else {
                        try await memory.remember("Writer \(writer) notes something", client: world.client + writer)
                    }
                }
            }
            #expect(try await world.execute("SELECT count(*) FROM events") == [["80"]])
        }
    }

    @Test(
        "Changes of different fields of one run all count", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func runFields(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            let fields = [
                "workflow_id", "process_template_id", "task_id", "project_id", "engagement_id", "executed_by_person_id",
                "outcome_notes", "metadata",
            ]
            for name in ["a", "b"] { _ = try await memory.createRun(ExecutionRun(id: name, kind: .process)) }
            try await sixteen { writer, _ in
                let field = fields[writer % 8]
                for round in 0..<5 {
                    let value = JSON.string("coda:\(field)-\(round)")
                    let change: JSONObject = [field: field == "metadata" ? ["said": value] : value]
                    _ = try await memory.updateRun(writer < 8 ? "a" : "b") { run throws(MemoryError) in
                        try run.apply(change)
                    }
                }
            }
            for name in ["a", "b"] {
                let run = try await memory.run(name)
                let said = [
                    run.workflowID, run.processTemplateID, run.taskID, run.projectID, run.engagementID,
                    run.executedByPersonID, run.outcomeNotes, run.metadata["said"]?.string,
                ]
                #expect(said == fields.map { "coda:\($0)-4" })
            }
        }
    }

    @Test(
        "Runs that name the same things in other places", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func runNames(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            try await sixteen { writer, dice in
                for round in 0..<12 {
                    let names = ["v", "w", "x", "y", "z"].map { "\($0)\(round)" }.shuffled(using: &dice)
                    var run = ExecutionRun(id: "run-\(writer)-\(round)", kind: .process)
                    (run.workflowID, run.processTemplateID, run.taskID) = (names[0], names[1], names[2])
                    (run.projectID, run.engagementID) = (names[3], names[4])
                    _ = try await memory.createRun(run)
                    let other = names.shuffled(using: &dice)
                    _ = try await memory.updateRun(run.id) { run in
                        (run.processTemplateID, run.projectID, run.engagementID) = (other[0], other[1], other[2])
                    }
                }
            }
            #expect(try await world.execute("SELECT count(*) FROM execution_runs") == [["192"]])
        }
    }

    // MARK: Plans, templates, keys

    @Test(
        "Changes of different fields of one plan all count, and its schedules", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func plans(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            let plan = try await memory.createPlan(
                PlanDraft(title: "t", intent: "i", sop: ["steps": []], owner: .client(world.client)))
            let start = Timestamp.now
            let block = Schedule.Block(start: start, end: start.advanced(by: .seconds(60)), taskID: "coda:task-1")
            try await sixteen { writer, _ in
                let patch =
                    switch writer % 5 {
                    case 0: PlanPatch(title: "title of writers")
                    case 1: PlanPatch(intent: "intent of writers")
                    case 2: PlanPatch(metadata: ["of": "writers"])
                    case 3: PlanPatch(sop: ["of": "writers"])
                    default: PlanPatch(status: .scheduled)
                    }
                _ = try await memory.updatePlan(plan.id, of: .client(world.client), patch)
                _ = try await memory.schedulePlan(plan.id, of: .client(world.client), blocks: [block])
            }
            let changed = try await memory.plan(plan.id, of: .client(world.client))
            #expect(changed.title == "title of writers" && changed.intent == "intent of writers")
            #expect(changed.metadata == ["of": "writers"] && changed.sop == ["of": "writers"])
            #expect(changed.status == .scheduled)
            #expect(try await memory.schedules(of: plan.id, owners: .client(world.client)).items.count == 16)
        }
    }

    @Test("Every version of a template is kept", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func templates(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            try await sixteen { writer, _ in
                for round in 0..<3 {
                    _ = try await memory.addTemplate(TemplateDraft(name: "shared", content: "\(writer)/\(round)"))
                }
            }
            var contents: Set<String> = []
            for number in 1...48 {
                contents.insert(try await memory.template("shared", version: "v\(number)").content)
            }
            #expect(contents.count == 48)
        }
    }

    @Test("Keys are made and revoked", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func keys(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            let common = try await memory.createKey(APIKeyDraft(name: "common")).key
            let revocations = Shared(0)
            try await sixteen { writer, _ in
                let own = try await memory.createKey(APIKeyDraft(name: "key \(writer)")).key
                try await memory.revokeKey(own.id)
                try await unlessGone {
                    try await memory.revokeKey(common.id)
                    revocations.withLock { $0 += 1 }
                }
            }
            #expect(revocations.value == 1)
            #expect(try await memory.apiKeys().allSatisfy { $0.revokedAt != nil })
        }
    }

    // MARK: Memories

    @Test(
        "New clients get their profiles from several at once", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func profiles(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            try await sixteen { writer, dice in
                let clients = (1...60).map { world.client + $0 }.shuffled(using: &dice)
                let drafts = clients.map { MemoryDraft(clientID: $0, content: "Client \($0) by writer \(writer)") }
                for result in try await memory.remember(drafts) { _ = try result.get() }
                _ = try await memory.log(EventDraft(type: "note", source: "test", owner: .client(clients[0])))
            }
            #expect(try await world.execute("SELECT count(*) FROM client_profiles") == [["60"]])
            #expect(try await world.execute("SELECT count(*) FROM events") == [["976"]])
        }
    }

    @Test("One key is one memory, whoever asks", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func idempotency(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            let ids = Shared<[Int: Set<Int64>]>([:])
            try await sixteen { _, dice in
                for key in (0..<5).shuffled(using: &dice) {
                    let draft = MemoryDraft(clientID: world.client + key, content: "Once, for key \(key)")
                    let receipt = try await memory.remember(draft, idempotencyKey: "key-\(key)")
                    _ = ids.withLock { $0[key, default: []].insert(receipt.memoryID) }
                }
            }
            #expect(ids.value.values.allSatisfy { $0.count == 1 })
            #expect(try await world.execute("SELECT count(*) FROM events") == [["5"]])
        }
    }

    @Test(
        "Agent memories of the same ids are replaced, never doubled", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func agentMemories(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            try await sixteen { writer, dice in
                for id in (0..<12).shuffled(using: &dice) {
                    let draft = MemoryDraft(clientID: world.client, content: "Distilled \(id) by writer \(writer)")
                    _ = try await memory.rememberDistilled(draft, id: "id-\(id)")
                }
            }
            #expect(try await world.execute("SELECT count(*) FROM events") == [["12"]])
            #expect(try await world.execute("SELECT count(*) FROM memory_history") == [["180"]])
        }
    }

    @Test(
        "A batch of agent memories deadlocks with no other", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func agentBatches(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            try await sixteen { writer, dice in
                for round in 0..<2 {
                    let drafts = (0..<30).shuffled(using: &dice).map { id in
                        var draft = MemoryDraft(clientID: world.client, content: "Distilled \(id)")
                        draft.kind = .agentMemory(id: "\(round)/\(id)")
                        return draft
                    }
                    for result in try await memory.remember(drafts) {
                        // Of one id the first is stored; it is the others' conflict.
                        if case .failure(let error) = result, error.code != .conflict { throw error }
                    }
                }
            }
            #expect(try await world.execute("SELECT count(*) FROM events") == [["60"]])
        }
    }

    @Test(
        "Memories are changed, deleted and swept by several", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func memories(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            let drafts = (0..<40).map { number in
                var draft = MemoryDraft(clientID: world.client, content: "Memory \(number)")
                if number % 2 == 0 { draft.expiry = .after(.seconds(600)) }
                return draft
            }
            let ids = try await memory.remember(drafts).map { try $0.get().memoryID }
            try await sixteen { writer, dice in
                for (round, id) in ids.shuffled(using: &dice).enumerated() {
                    switch writer % 4 {
                    case 0 where round > 20:
                        try await unlessGone { try await memory.delete(id, client: world.client) }
                    case 1 where round % 10 == 9:
                        let later = Timestamp.now.advanced(by: .seconds(3600))
                        try await memory.database.write(deadline: .after(.seconds(20))) { session throws(MemoryError) in
                            _ = try EventRepository(session: session).deleteExpired(now: later, limit: 5)
                        }
                    default:
                        var patch = MemoryPatch()
                        patch.tags = ["writer \(writer)"]
                        try await unlessGone { _ = try await memory.update(id, client: world.client, patch) }
                    }
                }
            }
            try await world.eventually("nothing is owed") {
                try await world.execute("SELECT count(*) FROM memory_outbox") == [["0"]]
            }
        }
    }

    // MARK: Documents

    @Test(
        "Documents are replaced and deleted by several; chunks and vectors are those of the last",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func documents(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            try await sixteen { writer, dice in
                for id in ["a", "b", "c"].shuffled(using: &dice) {
                    let text = (0..<12).map { "# Part \($0)\n\nWriter \(writer) says this in \(id) and repeats it." }
                    let draft = DocumentDraft(
                        id: id, owner: .client(world.client), content: text.joined(separator: "\n\n"))
                    _ = try await memory.ingest(draft)
                    if writer % 4 == 3 {
                        try await unlessGone { try await memory.deleteDocument(id, of: .client(world.client)) }
                    }
                }
            }
            let wrong = try await world.execute(
                """
                SELECT d.doc_id FROM documents d
                WHERE d.chunks <> (SELECT count(*) FROM document_chunks c WHERE c.document_id = d.id)
                """)
            #expect(wrong.isEmpty)
            try await world.eventually("nothing is owed") {
                try await world.execute("SELECT count(*) FROM memory_outbox") == [["0"]]
            }
            let chunks = try await world.execute("SELECT id FROM document_chunks ORDER BY id").compactMap { $0[0] }
            let base = Int64(world.client) - 1
            let points = try await memory.vectors.ownIDs(
                in: .docChunks, after: stores == .servers ? base : nil, limit: 1000, deadline: .after(.seconds(10)))
            #expect(points.filter { stores == .embedded || $0 < base + 10_000 }.map(String.init) == chunks)
        }
    }

    // MARK: Erasure

    @Test(
        "A client is erased again and again beside every kind of write", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func erasure(_ stores: StoreSet) async throws {
        try await with(stores) { memory, world async throws in
            let client = world.client
            try await sixteen { writer, dice in
                for round in 0..<12 {
                    let text = "Writer \(writer) in round \(round)"
                    switch writer % 8 {
                    case 0: _ = try await memory.erase(client: client)
                    case 1:
                        let key = "key \(writer) \(round)"
                        try await memory.remember(
                            MemoryDraft(clientID: client, content: text), idempotencyKey: key)
                    case 2:
                        let draft = DocumentDraft(id: "doc", owner: .client(client), content: text)
                        _ = try await memory.ingest(draft)
                        try await unlessGone { try await memory.deleteDocument("doc", of: .client(client)) }
                    case 3:
                        let plan = try await memory.createPlan(
                            PlanDraft(title: text, intent: "i", sop: [], owner: .client(client)))
                        let start = Timestamp.now
                        let block = Schedule.Block(start: start, end: start.advanced(by: .seconds(60)), taskID: "t")
                        try await unlessGone {
                            _ = try await memory.schedulePlan(plan.id, of: .client(client), blocks: [block])
                            _ = try await memory.updatePlan(plan.id, of: .client(client), PlanPatch(title: "changed"))
                        }
                    case 4:
                        _ = try await memory.rememberDistilled(
                            MemoryDraft(clientID: client, content: text), id: "id \(round % 3)")
                    case 5:
                        let id = try await memory.remember(text, client: client).memoryID
                        var patch = MemoryPatch()
                        patch.content = text + " changed"
                        try await unlessGone {
                            _ = try await memory.update(id, client: client, patch)
                            if round % 2 == 0 { try await memory.delete(id, client: client) }
                        }
                    case 6:
                        for result in try await memory.remember(
                            (0..<5).map { MemoryDraft(clientID: client + $0, content: text) })
                        { _ = try result.get() }
                    default: _ = try await memory.log(EventDraft(type: "note", source: "test", owner: .client(client)))
                    }
                }
            }
            _ = try await memory.erase(client: client)
            for table in ["events", "documents", "document_chunks", "plans", "scheduler_runs", "idempotency_keys"] {
                let left = try await world.execute("SELECT count(*) FROM \(table) WHERE client_id = \(client)")
                #expect(left == [["0"]], "\(table)")
            }
            try await world.eventually("nothing is owed") {
                try await world.execute("SELECT count(*) FROM memory_outbox WHERE client_id = \(client)") == [["0"]]
            }
        }
    }

    // MARK: The outbox

    @Test(
        "Outbox rows are claimed, settled, put back and revived in any order", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func outbox(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores, configure: { $0.postgres.connections = 16 }) { world async throws in
            // The tables. And then nobody else delivers, and with that removes rows.
            try await world.withMemory { _ in }
            try await world.withMemory(failingBy: FaultPlan()) { memory async throws in
                try await settle(memory, world)
            }
            guard stores == .servers else { return }
            let deadlocks = try await world.execute(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            #expect(deadlocks == [["0"]])
        }
    }

    private func settle(_ memory: Memory, _ world: TestWorld) async throws {
        let ids = (1...60).map { Int64(1_000_000_000 + $0) }
        let due = world.stores == .servers ? "now()" : "0"
        try await world.execute(
            """
            INSERT INTO memory_outbox (collection, record_id, client_id, due_at) VALUES
            \(ids.map { "('events', \($0), \(world.client), \(due))" }.joined(separator: ", "))
            """)
        try await sixteen { writer, dice in
            for round in 0..<6 {
                let leases = try await memory.database.write(deadline: .after(.seconds(20))) {
                    session throws(MemoryError) in
                    var turn = 0
                    return try OutboxRepository(session: session).claim(limit: 64, lease: .zero, turn: &turn)
                }.shuffled(using: &dice)
                // Of rows that another has claimed before, only the fence is wrong.
                let stale = ids.shuffled(using: &dice).prefix(20).map {
                    OutboxRepository.Lease(
                        collection: "events", key: RecordKey(id: $0, clientID: world.client), fence: 0,
                        attempts: 0, isStored: false, isShared: false, end: .after(.seconds(30)))
                }
                let failures = leases.map {
                    OutboxRepository.Failure(
                        lease: $0, error: "test", delay: .zero, counts: true, isDead: round % 3 == 0,
                        isStored: false)
                }
                try await memory.database.write(deadline: .after(.seconds(20))) { session throws(MemoryError) in
                    let outbox = OutboxRepository(session: session)
                    switch (writer + round) % 4 {
                    case 0: try outbox.complete(stale)
                    case 1: try outbox.postpone(failures)
                    case 2: _ = try outbox.enqueueAll()
                    default: _ = try outbox.retryDead()
                    }
                }
            }
        }
    }
}
