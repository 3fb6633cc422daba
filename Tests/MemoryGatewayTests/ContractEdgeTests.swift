import HTTPTypes
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

private let api = "/api/v1/memory"

/// The edges of the contract that a black-box run found wrong, on both sets of stores.
@Suite("Edges of the contract")
struct ContractEdgeTests {
    @Test("A corrected run leaves its old edges", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func correctedRun(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let world = gateway.world
            for (id, project) in [("r1", "p1"), ("r2", "p1"), ("r3", "p3")] {
                let run: JSON = [
                    "run_id": .string(id), "run_type": "Process", "workflow_id": "w", "process_template_id": "t1",
                    "project_id": .string(project), "engagement_id": "e1",
                ]
                #expect(try await gateway.post("\(api)/runs", run).status == 201)
            }
            // What a caller has put by hand, and said something of, is no run's to take away.
            let byHand: JSON = [
                "from_node_id": "p3", "to_node_id": "e1", "edge_type": "project_serves_engagement",
                "properties": ["since": 2019],
            ]
            #expect(try await gateway.put("\(api)/graph/edges", byHand).status == 200)
            func edges() async throws -> Set<String> {
                let rows = try await world.execute("SELECT from_node_id, to_node_id FROM graph_edges")
                return Set(rows.map { $0.compactMap { $0 }.joined(separator: " ") })
            }
            #expect(try await edges() == ["t1 r1", "t1 r2", "t1 r3", "r1 p1", "r2 p1", "r3 p3", "p1 e1", "p3 e1"])
            #expect(try await gateway.patch("\(api)/runs/r1", ["project_id": "p2"]).status == 200)
            #expect(
                try await edges() == [
                    "t1 r1", "t1 r2", "t1 r3", "r1 p2", "r2 p1", "r3 p3", "p1 e1", "p2 e1", "p3 e1",
                ])
            // The last run that said so takes the project's edge along.
            let moved: JSON = ["project_id": "p2", "engagement_id": "e2", "process_template_id": .null]
            #expect(try await gateway.patch("\(api)/runs/r2", moved).status == 200)
            #expect(try await gateway.patch("\(api)/runs/r3", ["project_id": .null]).status == 200)
            #expect(try await edges() == ["t1 r1", "t1 r3", "r1 p2", "r2 p2", "p2 e1", "p2 e2", "p3 e1"])
            // The same again changes nothing.
            #expect(try await gateway.patch("\(api)/runs/r1", ["outcome_notes": "done"]).status == 200)
            #expect(try await edges() == ["t1 r1", "t1 r3", "r1 p2", "r2 p2", "p2 e1", "p2 e2", "p3 e1"])
        }
    }

    @Test("A batch takes as many nodes and edges as its description says", .timeLimit(.minutes(5)))
    func graphBatchLimits() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            func batch(_ nodeCount: Int, _ edgeCount: Int) -> JSON {
                [
                    "nodes": .array((0..<nodeCount).map { ["node_id": .string("n\($0)"), "node_type": "t"] }),
                    "edges": .array(
                        (0..<edgeCount).map {
                            ["from_node_id": .string("n\($0)"), "to_node_id": "n0", "edge_type": "e"]
                        }),
                ]
            }
            #expect(try await gateway.post("\(api)/graph/batch", batch(1000, 1000)).status == 201)
            #expect(try await gateway.post("\(api)/graph/batch", batch(0, 1000)).status == 201)
            for body in [batch(1001, 0), batch(0, 1001), batch(0, 0)] {
                #expect(try await gateway.post("\(api)/graph/batch", body).status == 400)
            }
        }
    }

    @Test(
        "A batch that says a thing twice keeps what it says last", .timeLimit(.minutes(5)), arguments: StoreSet.allCases
    )
    func graphBatchTwice(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            func node(_ number: Int) -> JSON {
                ["node_id": "n", "node_type": "t", "properties": ["number": .int(Int64(number))]]
            }
            func edge(_ number: Int) -> JSON {
                [
                    "from_node_id": "n", "to_node_id": "n", "edge_type": "e",
                    "properties": ["number": .int(Int64(number))],
                ]
            }
            let body: JSON = ["nodes": [node(1), node(2)], "edges": [edge(1), edge(2)]]
            let stored = try await gateway.post("\(api)/graph/batch", body)
            #expect(stored.status == 201)
            #expect(stored.json["nodes"]?.array?.count == 2 && stored.json["edges"]?.array?.count == 2)
            #expect(try await gateway.get("\(api)/graph/nodes/n").json["properties"] == ["number": 2])
            #expect(
                try await gateway.world.execute("SELECT properties ->> 'number' FROM graph_edges") == [["2"]])
        }
    }

    @Test("An import names lines as they stand in the file, blank ones counted", .timeLimit(.minutes(5)))
    func importLines() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            let lines = [
                #"{"content": "one"}"#, "", "nonsense", #"{"content": ""}"#, "  ", #"{"content": "six"}"#, "{",
            ]
            let reply = try await gateway.post(
                "\(api)/clients/\(gateway.world.client)/import", lines.joined(separator: "\r\n"),
                headers: [.contentType: "application/x-ndjson"])
            #expect(reply.status == 207)
            #expect(reply.json["imported"] == 2 && reply.json["refused"] == 3)
            #expect(reply.json["errors"]?.array?.map { $0["line"]?.int } == [3, 4, 7])
        }
    }

    @Test(
        "Reflections and agent memories honour an Idempotency-Key", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func idempotentKinds(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = JSON.int(Int64(gateway.world.client))
            var bodies: [(path: String, body: JSONObject, id: String)] = [
                (
                    "reflections",
                    ["client_id": client, "mode": "daily", "reflection_date": "2026-11-21", "content": "A good day"],
                    "reflection_id"
                )
            ]
            for memoryID in [nil, "m-1"] {
                var body: JSONObject = ["client_id": client, "memory_type": "fact", "content": "Distilled"]
                body["memory_id"] = memoryID.map(JSON.string)
                bodies.append(("agent-memories", body, "event_id"))
            }
            for (number, (path, body, id)) in bodies.enumerated() {
                let headers: HTTPFields = [.idempotencyKey: "key \(number)"]
                let first = try await gateway.post("\(api)/\(path)", .object(body), headers: headers)
                #expect(first.status == 201)
                let again = try await gateway.post("\(api)/\(path)", .object(body), headers: headers)
                #expect(again.status == 201 && again.json == first.json, "\(path) \(id)")
                var other = body
                other["content"] = "Something else"
                #expect(try await gateway.post("\(api)/\(path)", .object(other), headers: headers).status == 409)
            }
            #expect(try await gateway.world.execute("SELECT count(*) FROM events") == [["3"]])
            #expect(try await gateway.world.execute("SELECT count(*) FROM memory_history") == [["0"]])
            // Without the key, or with another, an agent memory of that id is replaced.
            var body = bodies[2].body
            body["content"] = "Distilled anew"
            let headers: HTTPFields = [.idempotencyKey: "another"]
            for _ in 0..<2 {
                #expect(try await gateway.post("\(api)/agent-memories", .object(body), headers: headers).status == 201)
            }
            #expect(try await gateway.world.execute("SELECT count(*) FROM events") == [["3"]])
            #expect(try await gateway.world.execute("SELECT count(*) FROM memory_history") == [["1"]])
        }
    }

    @Test("A plan whose steps take no time has an empty schedule", .timeLimit(.minutes(5)))
    func emptySchedule() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            let plan = try await gateway.post("\(api)/plans", ["plan_title": "t", "intent": "i", "sop": []])
            let path = "\(api)/plans/\(plan.json["id"]?.int ?? plan.json["plan_id"]?.int ?? 0)/schedules"
            let stored = try await gateway.post(path, ["schedule_blocks": []])
            #expect(stored.status == 201 && stored.json["schedule_blocks"] == [])
            let block: JSON = ["start": "2026-01-01T10:00:00Z", "end": "2026-01-01T11:00:00Z", "task_id": "t"]
            let most = JSON.array(Array(repeating: block, count: 500))
            #expect(try await gateway.post(path, ["schedule_blocks": most]).status == 201)
            let tooMany = JSON.array(Array(repeating: block, count: 501))
            #expect(try await gateway.post(path, ["schedule_blocks": tooMany]).status == 400)
        }
    }
}
