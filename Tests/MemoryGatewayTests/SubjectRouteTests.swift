import HTTPTypes
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

private let api = "/api/v1/memory"

/// Documents, the graph, runs, plans, events, templates and sessions, on both sets of stores.
@Suite("Subject routes")
struct SubjectRouteTests {
    // MARK: Documents

    @Test(
        "Documents are chunked, replaced, listed, searched and deleted", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func documents(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            #expect(try await gateway.get("\(api)/search/docs?query=refunds").json == ["results": [], "total": 0])
            let section = String(repeating: "Nothing of interest is said in this sentence. ", count: 30)
            let text = "# Shipping\n\n\(section)\n\n# Refunds\n\nA refund takes three days.\n\n\(section)"
            let stored = try await gateway.post(
                "\(api)/docs",
                [
                    "doc_id": "hand/book", "client_id": .int(Int64(client)), "title": "Handbook",
                    "content": .string(text), "metadata": ["lang": "en"],
                ])
            #expect(stored.status == 200 && stored.json["failed"] == nil)
            #expect((stored.json["chunks"]?.int ?? 0) >= 4)
            let found = try await gateway.get(
                "\(api)/search/docs?query=how+long+takes+a+refund&client_id=\(client)&k=1")
            let hit = found.json["results"]?.array?.first
            #expect(found.json["total"] == 1 && hit?["doc_id"] == "hand/book" && hit?["metadata"] == ["lang": "en"])
            #expect(hit?["content"]?.string?.hasPrefix("# Refunds") == true)
            #expect(try await gateway.get("\(api)/search/docs?query=refund").json["total"] == 0)
            #expect(try await gateway.get("\(api)/search/docs?query=refund&client_id=\(client + 1)").json["total"] == 0)
            #expect(
                try await gateway.get("\(api)/search/docs?query=refund&client_id=\(client)&doc_id=other").json["total"]
                    == 0)
            // The same id again takes its place.
            let replaced = try await gateway.post(
                "\(api)/docs",
                ["doc_id": "hand/book", "client_id": .int(Int64(client)), "content": "Returns are free."])
            #expect(replaced.json["chunks"] == 1)
            let chunks = try await gateway.get("\(api)/search/docs?query=refund+returns&client_id=\(client)&k=10")
            #expect(chunks.json["results"]?.array?.map { $0["content"]?.string } == ["Returns are free."])
            let one = try await gateway.get("\(api)/docs/hand%2Fbook?client_id=\(client)")
            #expect(one.json["content"] == "Returns are free." && one.json["title"] == JSON.null)
            // Shared documents are everyone's to find, and nobody's own to delete.
            _ = try await gateway.post("\(api)/docs", ["doc_id": "shared", "content": "Returns go to Turin."])
            let both = try await gateway.get("\(api)/search/docs?query=returns&client_id=\(client)")
            #expect(both.json["total"] == 2)
            #expect(try await gateway.get("\(api)/docs?client_id=\(client)").json["items"]?.array?.count == 2)
            #expect(
                try await gateway.get("\(api)/docs").json["items"]?.array?.map { $0["doc_id"]?.string } == ["shared"])
            #expect(try await gateway.delete("\(api)/docs/shared?client_id=\(client)").status == 404)
            #expect(try await gateway.delete("\(api)/docs/hand%2Fbook?client_id=\(client)").status == 204)
            #expect(try await gateway.delete("\(api)/docs/hand%2Fbook?client_id=\(client)").status == 404)
            #expect(try await gateway.get("\(api)/docs/hand%2Fbook?client_id=\(client)").status == 404)
            #expect(try await gateway.get("\(api)/search/docs?query=returns&client_id=\(client)").json["total"] == 1)
        }
    }

    @Test("What documents get wrong", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func badDocuments(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            for body in [
                [:], ["doc_id": "d"], ["content": "x"], ["doc_id": "", "content": "x"],
                ["doc_id": "d", "content": " "],
                ["doc_id": "d", "content": "x", "client_id": 0], ["doc_id": "d", "content": "x", "metadata": 1],
                ["doc_id": .string(String(repeating: "d", count: 256)), "content": "x"],
            ] as [JSON] {
                #expect(try await gateway.post("\(api)/docs", body).status == 400)
            }
            for query in ["", "?query=", "?query=x&k=0", "?query=x&k=101", "?query=x&client_id=0"] {
                #expect(try await gateway.get("\(api)/search/docs\(query)").status == 400)
            }
            for query in ["limit=0", "limit=501", "limit=x", "cursor=x"] {
                #expect(try await gateway.get("\(api)/docs?\(query)").status == 400)
            }
        }
    }

    @Test(
        "A document far larger than a request's time is stored at once, and indexed in the end", .timeLimit(.minutes(5))
    )
    func largeDocument() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            let text = (0..<400).map {
                "Paragraph number \($0). " + String(repeating: "Words follow words. ", count: 40)
            }
            .joined(separator: "\n\n")
            let stored = try await gateway.post("\(api)/docs", ["doc_id": "big", "content": .string(text)])
            // What is left to the background on a healthy system has not failed.
            #expect(stored.status == 200 && stored.json["failed"] == nil && stored.json["warning"] == nil)
            #expect(stored.json["pending"] == ["embedded-vectors"] && stored.json["stored_in"] == ["sqlite"])
            try await gateway.world.eventually("every chunk is indexed") {
                try await gateway.world.execute("SELECT count(*) FROM memory_outbox") == [["0"]]
            }
            #expect(
                try await gateway.world.execute("SELECT count(*) FROM vector_points").first?.first
                    == "\(stored.json["chunks"]?.int ?? 0)")
        }
    }

    // MARK: The graph

    @Test(
        "Nodes and edges are stored once, changed, walked and deleted", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func graph(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            for name in ["a", "b", "c", "d/x"] {
                let path = "\(api)/graph/nodes/coda:\(name.replacing("/", with: "%2F"))"
                let node = try await gateway.put(path, ["node_type": "task", "properties": ["name": .string(name)]])
                #expect(node.status == 200 && node.json["node_id"] == .string("coda:\(name)"))
            }
            func edge(_ from: String, _ to: String, _ type: String = "next") -> JSON {
                [
                    "from_node_id": .string("coda:\(from)"), "to_node_id": .string("coda:\(to)"),
                    "edge_type": .string(type),
                ]
            }
            // A cycle, and a tail.
            for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d/x"), ("a", "b")] {
                #expect(try await gateway.put("\(api)/graph/edges", edge(from, to)).status == 200)
            }
            #expect(try await gateway.world.execute("SELECT count(*) FROM graph_edges") == [["4"]])
            #expect(try await gateway.put("\(api)/graph/edges", edge("a", "nowhere")).status == 422)
            func neighbors(_ query: String) async throws -> [String] {
                let reply = try await gateway.get("\(api)/graph/neighbors?entity_id=coda:a\(query)")
                #expect(reply.status == 200 && reply.json["entity_id"] == "coda:a")
                return (reply.json["neighbors"]?.array ?? []).map {
                    "\($0["node_id"]?.string ?? "") \($0["direction"]?.string ?? "") \($0["depth"]?.int ?? 0)"
                }
            }
            #expect(try await neighbors("") == ["coda:b outgoing 1", "coda:c incoming 1"])
            #expect(try await neighbors("&direction=outgoing") == ["coda:b outgoing 1"])
            #expect(try await neighbors("&direction=incoming") == ["coda:c incoming 1"])
            #expect(
                try await neighbors("&direction=outgoing&depth=5") == [
                    "coda:b outgoing 1", "coda:c outgoing 2", "coda:d/x outgoing 3",
                ])
            #expect(try await neighbors("&edge_type=other").isEmpty)
            let path = try await gateway.get("\(api)/graph/path?from=coda:d%2Fx&to=coda:b")
            #expect(path.json["length"] == 2)
            #expect(path.json["nodes"]?.array?.map { $0["node_id"]?.string } == ["coda:d/x", "coda:c", "coda:b"])
            #expect(try await gateway.get("\(api)/graph/path?from=coda:d%2Fx&to=coda:b&max_depth=1").status == 404)
            #expect(try await gateway.get("\(api)/graph/path?from=coda:a&to=coda:a").json["length"] == 0)
            #expect(
                try await gateway.delete("\(api)/graph/edges?from_node_id=coda:a&to_node_id=coda:b&edge_type=next")
                    .status == 204)
            #expect(
                try await gateway.delete("\(api)/graph/edges?from_node_id=coda:a&to_node_id=coda:b&edge_type=next")
                    .status == 404)
            #expect(try await gateway.delete("\(api)/graph/nodes/coda:c").status == 204)
            #expect(try await gateway.world.execute("SELECT count(*) FROM graph_edges") == [["0"]])
            for path in ["nodes/coda:c", "neighbors?entity_id=coda:c", "path?from=coda:c&to=coda:a"] {
                let gone = try await gateway.get("\(api)/graph/\(path)")
                #expect(gone.status == 404 && gone.json["error"] == "Entity not found")
            }
            for path in [
                "neighbors", "neighbors?entity_id=a&depth=0", "neighbors?entity_id=a&depth=6",
                "neighbors?entity_id=a&direction=up", "path?from=a", "path?from=a&to=b&max_depth=21",
            ] {
                #expect(try await gateway.get("\(api)/graph/\(path)").status == 400, "\(path)")
            }
            #expect(try await gateway.put("\(api)/graph/nodes/x", ["properties": [:]]).status == 400)
            #expect(try await gateway.put("\(api)/graph/nodes/x", ["node_type": "t", "properties": 1]).status == 400)
        }
    }

    @Test("A graph batch is stored whole or not at all", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func graphBatch(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let nodes: JSON = [["node_id": "n1", "node_type": "t"], ["node_id": "n2", "node_type": "t"]]
            let good: JSON = ["from_node_id": "n1", "to_node_id": "n2", "edge_type": "e"]
            let bad: JSON = ["from_node_id": "n1", "to_node_id": "n3", "edge_type": "e"]
            let refused = try await gateway.post("\(api)/graph/batch", ["nodes": nodes, "edges": [good, bad]])
            #expect(refused.status == 422)
            #expect(try await gateway.world.execute("SELECT count(*) FROM graph_nodes") == [["0"]])
            let stored = try await gateway.post("\(api)/graph/batch", ["nodes": nodes, "edges": [good]])
            #expect(stored.status == 201 && stored.json["edges"]?.array?.count == 1)
            for body in [[:], ["nodes": []], ["nodes": 1], ["nodes": [1]], ["edges": [[:]]]] as [JSON] {
                #expect(try await gateway.post("\(api)/graph/batch", body).status == 400)
            }
        }
    }

    // MARK: Runs

    @Test("Runs build the pattern hierarchy by themselves", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func pattern(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let nodes = ["blueprint": "service_blueprint", "workflow": "workflow", "template": "process_template"]
            let batch: JSON = [
                "nodes": .array(nodes.map { ["node_id": .string($0.key), "node_type": .string($0.value)] }),
                "edges": [
                    ["from_node_id": "blueprint", "to_node_id": "workflow", "edge_type": "blueprint_has_workflow"],
                    ["from_node_id": "workflow", "to_node_id": "template", "edge_type": "workflow_has_template"],
                ],
            ]
            #expect(try await gateway.post("\(api)/graph/batch", batch).status == 201)
            for (number, (project, hours)) in [("p1", 2.0), ("p1", 4.0), ("p2", 9.0)].enumerated() {
                let run: JSON = [
                    "run_id": .string("r\(number)"), "run_type": "Process", "process_template_id": "template",
                    "project_id": .string(project), "engagement_id": "e1", "actual_hours": .double(hours),
                    "started_at": .string("2026-05-0\(number + 1)T08:00:00Z"), "metadata": ["estimated_hours": 2],
                ]
                let stored = try await gateway.post("\(api)/runs", run)
                #expect(stored.status == 201 && stored.json["project_id"] == .string(project))
                #expect(try await gateway.post("\(api)/runs", run).status == 409)
            }
            let around = try await gateway.get("\(api)/graph/neighbors?entity_id=workflow&direction=outgoing&depth=4")
            let found = around.json["neighbors"]?.array ?? []
            let counts = found.filter { $0["node_type"] == "process_template" }.map { $0["execution_runs"]?.int }
            #expect(counts == [3])
            #expect(
                found.contains {
                    $0["node_id"] == "e1" && $0["edge_type"] == "project_serves_engagement" && $0["depth"] == 4
                })
            let similar = try await gateway.get("\(api)/similar/projects?blueprint_id=blueprint")
            #expect(similar.json["average_hours"] == 5)
            #expect(similar.json["projects"]?.array?.map { $0["project_id"]?.string } == ["p1", "p2"])
            #expect(similar.json["projects"]?.array?.first?["run_count"] == 2)
            #expect(similar.json["projects"]?.array?.first?["average_hours"] == 3)
            #expect(similar.json["projects"]?.array?.first?["total_hours"] == 6)
            #expect(similar.json["projects"]?.array?.first?["last_run_at"] == "2026-05-02T08:00:00Z")
            #expect(try await gateway.get("\(api)/similar/projects?blueprint_id=none").status == 404)
            #expect(try await gateway.get("\(api)/similar/projects?blueprint_id=blueprint&k=0").status == 400)
        }
    }

    @Test("Statistics, drift and changes of runs", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func runs(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            for (number, hours) in [1.0, 2, 3, 4, 10].enumerated() {
                let run: JSON = [
                    "run_id": .string("r/\(number)"), "run_type": number == 4 ? "Touchpoint" : "Process",
                    "process_template_id": "t", "workflow_id": "w", "task_id": .string("task\(number % 2)"),
                    "actual_hours": .double(hours),
                    "outcome_notes": number < 2 ? "Delayed, was unblocked later" : "fine",
                    "metadata": ["estimated_hours": 2], "started_at": .string("2026-05-0\(number + 1)T08:00:00Z"),
                ]
                #expect(try await gateway.post("\(api)/runs", run).status == 201)
            }
            let stats = try await gateway.get("\(api)/runs/stats?process_template_id=t")
            #expect(
                stats.json == [
                    "run_count": 5, "average_hours": 4, "median_hours": 3, "p90_hours": 7.6, "estimated_hours": 2,
                    "variance": 1, "drifting": true, "blocked_runs": 2,
                ])
            let later = try await gateway.get("\(api)/runs/stats?workflow_id=w&since=2026-05-04T00:00:00Z")
            #expect(later.json["run_count"] == 2 && later.json["drifting"] == false)
            let none = try await gateway.get("\(api)/runs/stats?project_id=none")
            #expect(none.json["run_count"] == 0 && none.json["average_hours"] == JSON.null)
            #expect(try await gateway.get("\(api)/runs/stats").status == 400)
            let drift = try await gateway.get("\(api)/runs/drift")
            #expect(drift.json["items"]?.array?.map { $0["process_template_id"]?.string } == ["t"])
            #expect(try await gateway.get("\(api)/runs/drift?since=2026-05-04T00:00:00Z").json["items"] == [])
            let listed = try await gateway.get("\(api)/runs?task_id=task0&run_type=Process")
            #expect(listed.json["items"]?.array?.map { $0["run_id"]?.string } == ["r/2", "r/0"])
            let changed = try await gateway.patch(
                "\(api)/runs/r%2F0", ["actual_hours": 1.25, "project_id": "p", "outcome_notes": .null])
            #expect(changed.json["actual_hours"] == 1.25 && changed.json["outcome_notes"] == JSON.null)
            #expect(changed.json["task_id"] == "task0")
            #expect(try await gateway.get("\(api)/graph/path?from=r%2F0&to=p").json["length"] == 1)
            #expect(try await gateway.get("\(api)/runs/r%2F0").json["actual_hours"] == 1.25)
            for (path, body, status) in [
                ("none", ["actual_hours": 1], 404), ("r%2F0", ["actual_hours": 1000], 400),
                ("r%2F0", ["run_type": "Walk"], 400), ("r%2F0", ["ended_at": "2020-01-01T00:00:00Z"], 422),
                ("r%2F0", ["metadata": ["estimated_hours": "two"]], 400),
            ] as [(String, JSON, Int)] {
                #expect(try await gateway.patch("\(api)/runs/\(path)", body).status == status)
            }
            for body in [
                [:], ["run_id": "x"], ["run_id": "", "run_type": "Process"], ["run_id": "x", "run_type": "process"],
            ] as [JSON] {
                #expect(try await gateway.post("\(api)/runs", body).status == 400)
            }
        }
    }

    // MARK: Plans

    @Test(
        "Plans move only as the contract says, and are scheduled", .timeLimit(.minutes(5)), arguments: StoreSet.allCases
    )
    func plans(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let plan = try await gateway.post(
                "\(api)/plans",
                [
                    "plan_title": "Invoices", "intent": "Send them", "sop": ["steps": [1]],
                    "client_id": .int(Int64(client)), "metadata": ["by": "planner"],
                ])
            #expect(plan.status == 201 && plan.json["status"] == "draft" && plan.json["sop"] == ["steps": [1]])
            let path = "\(api)/plans/\(plan.json["id"]?.int ?? 0)"
            for (status, expected) in [
                ("active", 422), ("completed", 422), ("scheduled", 200), ("completed", 422), ("draft", 200),
                ("scheduled", 200), ("active", 200), ("scheduled", 422), ("draft", 422), ("completed", 200),
                ("completed", 200), ("active", 422), ("draft", 422), ("lost", 400),
            ] {
                let moved = try await gateway.patch(path, ["status": .string(status)])
                #expect(moved.status == expected, "\(status)")
            }
            let changed = try await gateway.patch(path, ["plan_title": "All invoices", "sop": []])
            #expect(changed.json["plan_title"] == "All invoices" && changed.json["intent"] == "Send them")
            #expect(changed.json["status"] == "completed" && changed.json["metadata"] == ["by": "planner"])
            let block: JSON = ["start": "2026-05-08T08:00:00Z", "end": "2026-05-08T09:30:00+00:00", "task_id": "t1"]
            let schedule = try await gateway.post("\(path)/schedules", ["schedule_blocks": [block]])
            #expect(schedule.status == 201 && schedule.json["plan_id"] == plan.json["id"])
            let listed = try await gateway.get("\(path)/schedules")
            #expect(listed.json["items"]?.array?.first?["schedule_blocks"]?.array?.first?["task_id"] == "t1")
            let backwards: JSON = ["start": "2026-05-08T08:00:00Z", "end": "2026-05-08T08:00:00Z", "task_id": "t1"]
            for (body, status) in [
                (["schedule_blocks": [backwards]], 422), ([:], 400),
                (["schedule_blocks": [1]], 400),
                (["schedule_blocks": [["start": "soon", "end": "x", "task_id": "t"]]], 400),
            ] as [(JSON, Int)] {
                #expect(try await gateway.post("\(path)/schedules", body).status == status)
            }
            _ = try await gateway.post("\(api)/plans", ["plan_title": "b", "intent": "b", "sop": []])
            #expect(try await gateway.get("\(api)/plans?client_id=\(client)").json["items"]?.array?.count == 1)
            #expect(try await gateway.get("\(api)/plans?status=draft").json["items"]?.array?.count == 1)
            #expect(try await gateway.get("\(path)?client_id=\(client + 1)").status == 404)
            #expect(try await gateway.get("\(api)/plans/999999").status == 404)
            #expect(try await gateway.get("\(api)/plans/999999/schedules").status == 404)
            for body in [
                [:], ["plan_title": "x", "intent": "y"], ["plan_title": "x", "intent": "y", "sop": "z"],
                ["plan_title": .string(String(repeating: "x", count: 501)), "intent": "y", "sop": []],
                ["plan_title": "", "intent": "y", "sop": []],
            ] as [JSON] {
                #expect(try await gateway.post("\(api)/plans", body).status == 400)
            }
            #expect(try await gateway.get("\(api)/plans?status=lost").status == 400)
            #expect(try await gateway.get("\(api)/plans/x").status == 400)
        }
    }

    // MARK: Events

    @Test("Events are stored, filtered, paged and counted", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func events(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            for number in 0..<5 {
                var body: JSONObject = [
                    "event_type": number < 3 ? "task.created" : "task.deleted", "event_source": "n8n",
                    "payload": ["number": .int(Int64(number))],
                ]
                if number % 2 == 0 { body["client_id"] = .int(Int64(client)) }
                #expect(try await gateway.post("\(api)/events", .object(body)).status == 201)
            }
            func numbers(_ query: String) async throws -> [Int64?] {
                let reply = try await gateway.get("\(api)/events?\(query)")
                return (reply.json["items"]?.array ?? []).map { $0["payload"]?["number"]?.int }
            }
            #expect(try await numbers("") == [4, 3, 2, 1, 0])
            #expect(try await numbers("client_id=\(client)") == [4, 2, 0])
            #expect(try await numbers("event_type=task.created&event_source=n8n") == [2, 1, 0])
            #expect(try await numbers("start_date=2099-01-01").isEmpty)
            #expect(try await numbers("end_date=2099-01-01").count == 5)
            var seen: [Int64?] = []
            var cursor = ""
            repeat {
                let page = try await gateway.get("\(api)/events?limit=2\(cursor)")
                seen += (page.json["items"]?.array ?? []).map { $0["payload"]?["number"]?.int }
                cursor = page.json["next_cursor"]?.string.map { "&cursor=\($0)" } ?? ""
            } while !cursor.isEmpty
            #expect(seen == [4, 3, 2, 1, 0])
            let stats = try await gateway.get("\(api)/events/stats")
            #expect(
                stats.json == ["total": 5, "by_type": ["task.created": 3, "task.deleted": 2], "by_source": ["n8n": 5]])
            #expect(try await gateway.get("\(api)/events/stats?client_id=\(client)").json["total"] == 3)
            #expect(try await gateway.get("\(api)/events/stats?since=2099-01-01").json["total"] == 0)
            let id = try #require(
                try await gateway.get("\(api)/events?limit=1").json["items"]?.array?.first?["id"]?.int)
            #expect(try await gateway.get("\(api)/events/\(id)").json["payload"] == ["number": 4])
            #expect(try await gateway.get("\(api)/events/\(id)?client_id=\(client + 1)").status == 404)
            #expect(try await gateway.get("\(api)/events/2147483647").status == 404)
            for change in [
                ("event_type", ""), ("event_type", "memory:fact"), ("event_type", "reflection"),
                ("event_type", "agent_memory:x"),
                ("event_type", .string(String(repeating: "x", count: 101))),
                ("event_source", .string(String(repeating: "x", count: 51))),
                ("payload", 7), ("payload", .null), ("client_id", 0), ("metadata", []),
            ] as [(String, JSON)] {
                var body: JSONObject = ["event_type": "a", "event_source": "b", "payload": [:]]
                body[change.0] = change.1
                let reply = try await gateway.post("\(api)/events", .object(body))
                #expect(reply.status == 400 && reply.json["field"]?.string == change.0, "\(change)")
            }
            #expect(try await gateway.get("\(api)/events?start_date=x").status == 400)
        }
    }

    @Test(
        "The stream gives each event once, goes on where it ended, and keeps to its filter", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func stream(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let memory = gateway.memory
            let client = gateway.world.client
            let first = try await memory.log(EventDraft(type: "a", source: "s", owner: .client(client)))
            let heard = Shared<[Int64]>([])
            var filter = EventFilter(of: .anyone)
            filter.type = "a"
            let following = filter
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try? await memory.follow(following, after: first.id) { events in
                        heard.withLock { $0 += events.map(\.id) }
                    }
                }
                let stored = Shared<[Int64]>([])
                await withTaskGroup(of: Void.self) { writers in
                    for writer in 0..<8 {
                        writers.addTask {
                            for _ in 0..<10 {
                                guard
                                    let event = try? await memory.log(
                                        EventDraft(type: writer == 0 ? "b" : "a", source: "s", owner: .shared))
                                else { continue }
                                if writer > 0 { stored.withLock { $0.append(event.id) } }
                            }
                        }
                    }
                }
                try await gateway.world.eventually("all are heard") { heard.value.count >= 70 }
                group.cancelAll()
                #expect(heard.value.count == 70 && Set(heard.value) == Set(stored.value))
            }
            let wrong = try await gateway.send(.get, "\(api)/events/stream", headers: [.lastEventID: "x"])
            #expect(wrong.status == 400)
        }
    }

    @Test("One follower too many is told so, before the answer begins", .timeLimit(.minutes(5)))
    func tooManyFollow() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            let memory = gateway.memory
            let following = Shared(0)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<256 {
                    group.addTask {
                        let isFirst = Shared(true)
                        try await memory.follow(EventFilter(of: .anyone)) { _ in
                            if isFirst.value { following.withLock { $0 += 1 } }
                            isFirst.value = false
                        }
                    }
                }
                try await gateway.world.eventually("all follow") { following.value == 256 }
                let one = try await gateway.get("\(api)/events/stream")
                #expect(one.status == 503 && one.json["code"] == "unavailable")
                #expect(one.headers[.retryAfter] != nil)
                group.cancelAll()
            }
            // Their places are free again, and one that was never read is given back as well.
            for _ in 0..<300 {
                #expect(try await gateway.send(.head, "\(api)/events/stream", readsBody: false).status == 200)
            }
        }
    }

    @Test("A store that fails ends the stream with an error, not as if it were complete", .timeLimit(.minutes(5)))
    func streamOfAFailingStore() async throws {
        try await TestGateway.with(own: [.postgres]) { gateway async throws in
            _ = try await gateway.memory.log(EventDraft(type: "a", source: "s", owner: .shared))
            async let stream = gateway.send(.get, "\(api)/events/stream", headers: [.lastEventID: "0"])
            try await gateway.world.eventually("it follows") { gateway.memory.signals.followers == 1 }
            try await gateway.world.perform(.kill, .postgres)
            let text = try await stream.text
            let last = text.split(separator: "\n\n").last.map(String.init) ?? ""
            #expect(last.hasPrefix("event: error\ndata: {\"error\":\"Primary storage unavailable"), "\(last)")
            #expect(try await gateway.get("\(api)/events/stream").status == 503)
        }
    }

    // MARK: Templates

    @Test("Templates have versions; the old ones stay", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func templates(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let seeded = try await gateway.get("\(api)/templates")
            let names = (seeded.json["items"]?.array ?? []).compactMap { $0["template_name"]?.string }
            #expect(
                Set(names) == [
                    "sop_generator", "sop_generator_manifold", "schedule_optimizer", "daily_reflection",
                    "weekly_review",
                ])
            let manifold = try await gateway.get("\(api)/templates/sop_generator_manifold")
            #expect(manifold.json["metadata"]?["option_count"] == 3 && manifold.json["template_type"] == "system")
            let original = try await gateway.get("\(api)/templates/daily_reflection").json["content"]
            for number in 2...11 {
                let added = try await gateway.put(
                    "\(api)/templates/daily_reflection", ["content": .string("version \(number)")])
                #expect(added.json["version"] == .string("v\(number)") && added.json["template_type"] == "system")
            }
            #expect(try await gateway.get("\(api)/templates/daily_reflection").json["content"] == "version 11")
            #expect(try await gateway.get("\(api)/templates/daily_reflection?version=v1").json["content"] == original)
            #expect(try await gateway.get("\(api)/templates/daily_reflection?version=v12").status == 404)
            #expect(try await gateway.get("\(api)/templates/none").status == 404)
            let new = try await gateway.put("\(api)/templates/a%2Fb%20c", ["content": "x", "metadata": ["k": 1]])
            #expect(
                new.json["template_name"] == "a/b c" && new.json["version"] == "v1"
                    && new.json["template_type"] == "custom")
            #expect(
                try await gateway.get("\(api)/templates?limit=1").json["items"]?.array?.first?["template_name"]
                    == "a/b c")
            for body in [
                [:], ["content": ""], ["content": "x", "template_type": 7], ["content": "x", "metadata": []],
            ] as [JSON] {
                #expect(try await gateway.put("\(api)/templates/x", body).status == 400)
            }
            #expect(
                try await gateway.put("\(api)/templates/\(String(repeating: "x", count: 101))", ["content": "x"]).status
                    == 400)
        }
    }

    // MARK: Sessions

    @Test(
        "Sessions keep the last thousand messages, and a state", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func sessions(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let path = "\(api)/sessions/a%2Fb"
            for start in stride(from: 0, to: 1050, by: 50) {
                let messages = (start..<start + 50).map { number -> JSON in
                    ["role": "user", "content": .string("message \(number)"), "metadata": ["n": .int(Int64(number))]]
                }
                let added = try await gateway.post(
                    "\(path)/messages", ["client_id": .int(Int64(client)), "messages": .array(messages)])
                #expect(added.status == 201 && added.json["message_count"] == .int(Int64(min(1000, start + 50))))
            }
            let last = try await gateway.get("\(path)/messages?client_id=\(client)&last=2")
            #expect(last.json["session_id"] == "a/b")
            #expect(last.json["messages"]?.array?.map { $0["content"]?.string } == ["message 1048", "message 1049"])
            #expect(last.json["messages"]?.array?.last?["metadata"] == ["n": 1049])
            let all = try await gateway.get("\(path)/messages?client_id=\(client)&last=1000")
            #expect(all.json["messages"]?.array?.first?["content"] == "message 50")
            #expect(try await gateway.get("\(path)/messages?client_id=\(client)").json["messages"]?.array?.count == 20)
            #expect(try await gateway.get("\(path)/messages?client_id=\(client + 1)").json["messages"] == [])
            #expect(try await gateway.get("\(path)/state?client_id=\(client)").status == 404)
            #expect(
                try await gateway.put("\(path)/state?client_id=\(client)", ["topic": ["a": [1, 2.5, .null]]]).status
                    == 200)
            #expect(
                try await gateway.get("\(path)/state?client_id=\(client)").json == ["topic": ["a": [1, 2.5, .null]]])
            #expect(try await gateway.get("\(path)/state?client_id=\(client + 1)").status == 404)
            #expect(try await gateway.delete("\(path)/state?client_id=\(client)").status == 204)
            #expect(try await gateway.delete("\(path)/state?client_id=\(client)").status == 404)
            #expect(try await gateway.delete("\(path)?client_id=\(client + 1)").status == 404)
            #expect(try await gateway.delete("\(path)?client_id=\(client)").status == 204)
            #expect(try await gateway.get("\(path)/messages?client_id=\(client)").json["messages"] == [])
            for body in [
                ["messages": [["role": "user", "content": "x"]]], ["client_id": 1], ["client_id": 1, "messages": []],
                ["client_id": 1, "messages": [["role": "user"]]],
                ["client_id": 1, "messages": [["role": "", "content": "x"]]],
                ["client_id": 1, "messages": [1]],
                ["client_id": 1, "messages": .array(Array(repeating: ["role": "u", "content": "x"], count: 101))],
            ] as [JSON] {
                #expect(try await gateway.post("\(path)/messages", body).status == 400)
            }
            for query in ["", "client_id=1&last=0", "client_id=1&last=1001", "client_id=1&last=x"] {
                #expect(try await gateway.get("\(path)/messages?\(query)").status == 400)
            }
            #expect(try await gateway.put("\(path)/state?client_id=1", []).status == 400)
        }
    }

    @Test("Without Valkey sessions alone are a 503", .timeLimit(.minutes(5)))
    func sessionsWithoutValkey() async throws {
        try await TestGateway.with(own: [.valkey]) { gateway async throws in
            try await gateway.world.perform(.kill, .valkey)
            let client = gateway.world.client
            let body: JSON = ["client_id": .int(Int64(client)), "messages": [["role": "user", "content": "x"]]]
            let reply = try await gateway.post("\(api)/sessions/s/messages", body)
            #expect(reply.status == 503 && reply.json["code"] == "unavailable" && reply.headers[.retryAfter] != nil)
            #expect(try await gateway.get("\(api)/sessions/s/messages?client_id=\(client)").status == 503)
            #expect(try await gateway.get("\(api)/sessions/s/state?client_id=\(client)").status == 503)
            #expect(try await gateway.get("\(api)/recall?query=x&client_id=\(client)").status == 200)
            #expect(try await gateway.get("\(api)/events").status == 200)
            let erased = try await gateway.delete("\(api)/clients/\(client)")
            #expect(erased.status == 207 && erased.json["failed"] == ["valkey"])
        }
    }
}
