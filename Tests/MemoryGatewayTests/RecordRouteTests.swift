import HTTPTypes
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

private let api = "/api/v1/memory"

/// Memories after they were stored, on both sets of stores.
@Suite("Record routes")
struct RecordRouteTests {
    @Test(
        "PATCH changes a memory everywhere, and keeps what it was", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func patch(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let id = try await gateway.remember("the piano is in the kitchen")
            let path = "\(api)/\(id)?client_id=\(client)"
            #expect(try await gateway.get("\(api)/\(id)/history?client_id=\(client)").json["items"] == [])
            let changed = try await gateway.patch(
                path, ["content": "the violin is upstairs", "tags": ["music"], "metadata": ["seen": true]])
            #expect(changed.status == 200 && changed.json["content"] == "the violin is upstairs")
            #expect(changed.json["tags"] == ["music"] && changed.json["memory_id"] == .int(id))
            // Only what is named changes.
            let again = try await gateway.patch(path, ["tags": ["strings"]])
            #expect(again.json["content"] == "the violin is upstairs" && again.json["metadata"] == ["seen": true])
            #expect(try await gateway.get(path).json["tags"] == ["strings"])
            let history = try await gateway.get("\(api)/\(id)/history?client_id=\(client)").json["items"]?.array
            #expect(history?.map { $0["version"]?.int } == [1, 2])
            #expect(
                history?.map { $0["content"]?.string } == ["the piano is in the kitchen", "the violin is upstairs"])
            #expect(history?.first?["tags"] == [] && history?.last?["tags"] == ["music"])
            for (query, count) in [("violin upstairs", 1), ("piano kitchen", 0)] {
                let found = try await gateway.post(
                    "\(api)/recall", ["query": .string(query), "client_id": .int(Int64(client)), "mode": "keyword"])
                #expect(found.json["result_count"] == .int(Int64(count)), "\(query)")
            }
            let filtered = try await gateway.get("\(api)/recall?query=violin&client_id=\(client)&tags=strings")
            #expect(filtered.json["result_count"] == 1)
        }
    }

    @Test("PATCH moves and removes the end of a memory", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func patchExpiry(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let path = "\(api)/\(try await gateway.remember("tea at four"))?client_id=\(client)"
            let ends = try await gateway.patch(path, ["expires_at": "2099-01-01T00:00:00Z"])
            #expect(ends.json["expires_at"] == "2099-01-01T00:00:00Z")
            #expect(try await gateway.patch(path, ["expires_at": .null]).json["expires_at"] == nil)
            #expect(try await gateway.patch(path, ["expires_at": "2001-01-01T00:00:00Z"]).status == 200)
            #expect(try await gateway.get(path).status == 404)
            #expect(try await gateway.get("\(api)/recall?query=tea&client_id=\(client)").json["result_count"] == 0)
        }
    }

    @Test("What PATCH gets wrong", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func badPatch(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let id = try await gateway.remember("unchanged")
            let path = "\(api)/\(id)?client_id=\(client)"
            for (body, status) in [
                ([:], 400), (["content": ""], 400), (["content": 7], 400), (["tags": "a"], 400),
                (["metadata": []], 400), (["expires_at": "soon"], 400),
                (["content": .string(String(repeating: "x", count: 65_537))], 413),
            ] as [(JSON, Int)] {
                #expect(try await gateway.patch(path, body).status == status)
            }
            #expect(try await gateway.patch("\(api)/\(id)", ["content": "x"]).status == 400)
            #expect(try await gateway.patch("\(api)/\(id)?client_id=\(client + 1)", ["content": "x"]).status == 404)
            #expect(try await gateway.patch("\(api)/2147483647?client_id=\(client)", ["content": "x"]).status == 404)
            #expect(try await gateway.get("\(api)/\(id)/history?client_id=\(client + 1)").status == 404)
            #expect(try await gateway.get(path).json["content"] == "unchanged")
        }
    }

    @Test(
        "Concurrent changes all count, and the vector is that of the last", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func concurrentPatches(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let id = try await gateway.remember("start")
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<12 {
                    group.addTask {
                        var patch = MemoryPatch()
                        patch.content = "unique\(number)word"
                        _ = try? await gateway.memory.update(id, client: client, patch)
                    }
                }
            }
            let history = try await gateway.memory.history(of: id, client: client)
            #expect(history.map(\.version) == Array(1...12))
            let last = try await gateway.memory.memory(id, client: client).content
            #expect(Set(history.map(\.content) + [last]).count == 13)
            // Deliveries may overtake each other; the outbox puts that right.
            try await gateway.world.eventually("only the last text is found") {
                var request = RecallRequest(query: last, clientID: client)
                request.mode = .keyword
                let isFound = try await gateway.memory.recall(request).count == 1
                request.query = history[1].content
                let isOldFound = try await gateway.memory.recall(request).count > 0
                let owed = try await gateway.world.execute("SELECT count(*) FROM memory_outbox")
                return isFound && !isOldFound && owed == [["0"]]
            }
        }
    }

    @Test(
        "An expired memory is never recalled, and swept away with its vector", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func expiry(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let body: JSON = [
                "client_id": .int(Int64(client)), "content": "the parking ticket is blue",
                "expires_at": "2001-01-01T00:00:00Z",
            ]
            let stored = try await gateway.post("\(api)/remember", body)
            #expect(stored.status == 200)
            let found = try await gateway.get("\(api)/recall?query=parking+ticket&client_id=\(client)")
            #expect(found.json["result_count"] == 0)
            let kept = try await gateway.remember("the parking ticket is green")
            let id = try #require(stored.json["memory_id"]?.int)
            try await gateway.world.eventually("the row is swept") {
                try await gateway.world.execute("SELECT id FROM events") == [["\(kept)"]]
            }
            try await gateway.world.eventually("its point is gone") {
                try await gateway.memory.vectors.vectors(of: [id, kept], in: .events, deadline: .after(.seconds(10)))
                    .keys.sorted() == [kept]
            }
        }
    }

    @Test(
        "Erasing a client takes everything of it, counts it, and nothing of another", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func erase(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let (client, other) = (gateway.world.client, gateway.world.client + 1)
            for owner in [client, other] {
                _ = try await gateway.remember("tea", client: owner)
                let id = JSON.int(Int64(owner))
                for (path, body) in [
                    ("agent-memories", ["client_id": id, "memory_type": "fact", "content": "likes tea"]),
                    (
                        "reflections",
                        ["client_id": id, "mode": "daily", "reflection_date": "2026-05-07", "content": "tea"]
                    ),
                    ("docs", ["client_id": id, "doc_id": "d", "content": "all about tea"]),
                    ("events", ["client_id": id, "event_type": "a", "event_source": "b", "payload": [:]]),
                    ("plans", ["client_id": id, "plan_title": "t", "intent": "i", "sop": []]),
                    ("sessions/s/messages", ["client_id": id, "messages": [["role": "user", "content": "hi"]]]),
                ] as [(String, JSON)] {
                    #expect((200...201).contains(try await gateway.post("\(api)/\(path)", body).status), "\(path)")
                }
            }
            let erased = try await gateway.delete("\(api)/clients/\(client)")
            #expect(erased.status == 200)
            let counts = erased.json["erased"]
            #expect(counts?["memories"] == 3 && counts?["events"] == 1)
            #expect(counts?["documents"] == 1 && counts?["plans"] == 1 && (counts?["cached"]?.int ?? 0) > 0)
            for owner in [client, other] {
                let count = JSON.int(owner == other ? 3 : 0)
                #expect(
                    try await gateway.get("\(api)/recall?query=tea&client_id=\(owner)").json["result_count"] == count)
                let chunks = try await gateway.get("\(api)/search/docs?query=tea&client_id=\(owner)")
                #expect(chunks.json["total"] == .int(owner == other ? 1 : 0))
                let messages = try await gateway.get("\(api)/sessions/s/messages?client_id=\(owner)")
                #expect(messages.json["messages"]?.array?.count == (owner == other ? 1 : 0))
            }
            #expect(
                try await gateway.world.execute("SELECT client_id FROM client_profiles").map { $0[0] } == ["\(other)"])
            let again = try await gateway.delete("\(api)/clients/\(client)")
            #expect(again.status == 200 && again.json["erased"]?["memories"] == 0)
            // The client may come back.
            #expect(try await gateway.remember("tea again", client: client) > 0)
        }
    }

    @Test(
        "What a client exports, it can import again, of every kind", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func transfer(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let (client, copy) = (gateway.world.client, gateway.world.client + 1)
            let id = JSON.int(Int64(client))
            _ = try await gateway.remember("tea is at four")
            _ = try await gateway.post(
                "\(api)/agent-memories",
                ["client_id": id, "memory_id": "m1", "memory_type": "preference", "content": "likes tea"])
            _ = try await gateway.post(
                "\(api)/reflections",
                [
                    "client_id": id, "mode": "weekly", "reflection_date": "2026-05-07", "content": "much tea",
                    "metrics": ["cups": 9],
                ])
            let exported = try await gateway.get("\(api)/clients/\(client)/export")
            #expect(exported.headers[.contentType] == "application/x-ndjson")
            let lines = exported.text.split(separator: "\n").map(String.init)
            #expect(lines.count == 3)
            // Another client's lines are refused, each for itself; lines that name nobody are the path's client's.
            let mixed = lines.map { $0.replacing("\"client_id\":\(client),", with: "") } + ["{", lines[0]]
            let imported = try await gateway.send(
                .post, "\(api)/clients/\(copy)/import", body: Array(mixed.joined(separator: "\n").utf8),
                headers: [.contentType: "application/x-ndjson"])
            #expect(imported.status == 207)
            #expect(imported.json["imported"] == 3 && imported.json["refused"] == 2)
            #expect(imported.json["errors"]?.array?.map { $0["line"]?.int } == [4, 5])
            #expect(imported.json["errors"]?.array?.last?["code"] == "forbidden")
            let found = try await gateway.get("\(api)/recall?query=tea&client_id=\(copy)")
            #expect(
                Set((found.json["results"]?.array ?? []).compactMap { $0["source"]?.string })
                    == ["events", "agent_memories", "daily_threads"])
            let reflections = try await gateway.get("\(api)/reflections?client_id=\(copy)&mode=weekly")
            #expect(reflections.json["items"]?.array?.first?["metrics"] == ["cups": 9])
            let wrongType = try await gateway.send(
                .post, "\(api)/clients/\(copy)/import", body: Array("{}".utf8))
            #expect(wrongType.status == 415)
        }
    }

    @Test(
        "An agent memory of the same id replaces the one before", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func agentMemories(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = JSON.int(Int64(gateway.world.client))
            func store(_ content: JSON, _ id: JSON = "m1", client: JSON = client) async throws -> TestGateway.Reply {
                try await gateway.post(
                    "\(api)/agent-memories",
                    ["client_id": client, "memory_id": id, "memory_type": "preference", "content": content])
            }
            let first = try await store("drinks tea")
            #expect(first.status == 201 && first.json["memory_id"] == "m1")
            let second = try await store("drinks coffee")
            #expect(second.json["event_id"] == first.json["event_id"])
            #expect(try await store("drinks milk", client: .int(Int64(gateway.world.client + 1))).status == 201)
            let made = try await gateway.post(
                "\(api)/agent-memories", ["client_id": client, "memory_type": "fact", "content": "has a dog"])
            #expect(made.status == 201 && made.json["memory_id"]?.string?.isEmpty == false)
            let found = try await gateway.get(
                "\(api)/recall?query=what+drinks+does+she+like&client_id=\(gateway.world.client)&sources=agent_memories&memory_type=preference"
            )
            let hits = found.json["results"]?.array ?? []
            #expect(hits.map { $0["content"]?.string } == ["drinks coffee"])
            #expect(hits.first?["agent_memory_id"] == "m1" && hits.first?["source"] == "agent_memories")
            for body in [
                ["client_id": client, "content": "x"], ["client_id": client, "memory_type": "fact"],
                ["memory_type": "fact", "content": "x"],
                ["client_id": client, "memory_type": "fact", "content": "x", "memory_id": 7],
                ["client_id": client, "memory_type": "fact", "content": "x", "memory_id": ""],
            ] as [JSON] {
                #expect(try await gateway.post("\(api)/agent-memories", body).status == 400)
            }
        }
    }

    @Test("One id stored by many at once is one agent memory", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func agentMemoryRace(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let ids = await concurrently(Array(0..<10)) { number in
                let draft = MemoryDraft(clientID: client, content: "version \(number)")
                return try? await gateway.memory.rememberDistilled(draft, id: "same").memoryID
            }
            #expect(Set(ids).count == 1 && ids.allSatisfy { $0 != nil })
            #expect(try await gateway.world.execute("SELECT count(*) FROM memory_history") == [["9"]])
        }
    }

    @Test(
        "Reflections are listed by client and mode, in pages, and recalled", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func reflections(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            for day in 1...3 {
                let stored = try await gateway.post(
                    "\(api)/reflections",
                    [
                        "client_id": .int(Int64(client)), "mode": day == 3 ? "weekly" : "daily",
                        "reflection_date": .string("2026-05-0\(day)"), "content": .string("day \(day) was long"),
                    ])
                #expect(stored.status == 201 && stored.json["reflection_id"]?.int != nil)
            }
            let daily = try await gateway.get("\(api)/reflections?client_id=\(client)&mode=daily&limit=1")
            #expect(daily.json["items"]?.array?.map { $0["reflection_date"]?.string } == ["2026-05-02"])
            let cursor = try #require(daily.json["next_cursor"]?.string)
            let rest = try await gateway.get("\(api)/reflections?client_id=\(client)&mode=daily&cursor=\(cursor)")
            #expect(rest.json["items"]?.array?.map { $0["reflection_date"]?.string } == ["2026-05-01"])
            #expect(rest.json["next_cursor"] == JSON.null)
            let found = try await gateway.get("\(api)/recall?query=long+day&client_id=\(client)&sources=daily_threads")
            #expect(found.json["result_count"] == 3)
            for change in [
                ("mode", "monthly"), ("reflection_date", "2026-02-30"), ("reflection_date", "2026-05-07T00:00:00Z"),
                ("content", ""), ("metrics", 7),
            ] as [(String, JSON)] {
                var body: JSONObject = [
                    "client_id": 1, "mode": "daily", "reflection_date": "2026-05-07", "content": "x",
                ]
                body[change.0] = change.1
                let reply = try await gateway.post("\(api)/reflections", .object(body))
                #expect(reply.status == 400 && reply.json["field"]?.string == change.0)
            }
            #expect(try await gateway.get("\(api)/reflections").status == 400)
        }
    }

    @Test(
        "Similar events: the nearest, without itself, of the same client", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func similar(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let id = try await gateway.remember("invoices are sent on Friday")
            let near = try await gateway.remember("invoices are paid on Friday")
            let far = try await gateway.remember("the cat sleeps")
            _ = try await gateway.remember("invoices are sent on Friday", client: client + 1)
            let reply = try await gateway.get("\(api)/similar/events?event_id=\(id)&k=5")
            #expect(reply.status == 200 && reply.json["event_id"] == .int(id))
            #expect(reply.json["results"]?.array?.map { $0["memory_id"]?.int } == [near, far])
            #expect(reply.json["results"]?.array?.first?["similarity_score"]?.double ?? 0 > 0.5)
            #expect(try await gateway.get("\(api)/similar/events?event_id=\(id)&k=1").json["result_count"] == 1)
            // An event of another system is compared by what its payload says.
            let event = try await gateway.post(
                "\(api)/events",
                [
                    "event_type": "task.created", "event_source": "n8n", "client_id": .int(Int64(client)),
                    "payload": ["title": "invoices sent on Friday"],
                ])
            let other = try await gateway.get("\(api)/similar/events?event_id=\(event.json["id"]?.int ?? 0)&k=1")
            #expect(other.json["results"]?.array?.map { $0["memory_id"]?.int } == [id])
            #expect(try await gateway.get("\(api)/similar/events?event_id=\(id)&client_id=\(client + 1)").status == 404)
            #expect(try await gateway.get("\(api)/similar/events?event_id=2147483647").status == 404)
            for query in ["", "?event_id=x", "?event_id=\(id)&k=0", "?event_id=\(id)&k=101"] {
                #expect(try await gateway.get("\(api)/similar/events\(query)").status == 400)
            }
        }
    }
}
