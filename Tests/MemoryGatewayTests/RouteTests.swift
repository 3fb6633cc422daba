import HTTPTypes
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

private let remember = "/api/v1/memory/remember"
private let recall = "/api/v1/memory/recall"

@Suite("Routes")
struct RouteTests {
    @Test("Remember answers as the contract says", .timeLimit(.minutes(5)))
    func rememberAnswer() async throws {
        try await TestGateway.with { gateway async throws in
            let client = gateway.world.client
            let reply = try await gateway.post(
                remember,
                #"""
                {"client_id": \#(client), "content": "User prefers morning deep work", "memory_type": "fact",
                 "memory_scope": "user", "session_id": "s-1", "tags": ["work"], "metadata": {"source": "chat"},
                 "unknown": [1], "run_id": null}
                """#)
            #expect(reply.status == 200)
            #expect(reply.headers[.contentType] == "application/json; charset=utf-8")
            let members = reply.json.object?.members.map(\.key)
            #expect(members == ["memory_id", "client_id", "stored_in", "created_at"])
            #expect(reply.json["client_id"] == .int(Int64(client)))
            #expect(reply.json["stored_in"] == ["postgres", "qdrant", "valkey"])
            let created = try #require(reply.json["created_at"]?.string)
            #expect(Timestamp(created) != nil && created.hasSuffix("Z"))
        }
    }

    @Test("Recall answers the same by GET and POST, as the contract says", .timeLimit(.minutes(5)))
    func recallAnswer() async throws {
        try await TestGateway.with { gateway async throws in
            let client = gateway.world.client
            let id = try await gateway.remember("tea & cake at 4 o'clock")
            let got = try await gateway.get("\(recall)?query=tea%20%26+cake&client_id=\(client)&k=3&tags=&x=1")
            let posted = try await gateway.post(recall, #"{"query": "tea & cake", "client_id": \#(client), "k": 3}"#)
            for reply in [got, posted] {
                #expect(reply.status == 200)
                let keys = ["query", "client_id", "result_count", "cached", "degraded", "search_time_ms", "results"]
                #expect(reply.json.object?.members.map(\.key) == keys)
                #expect(reply.json["query"] == "tea & cake" && reply.json["result_count"] == 1)
                #expect(reply.json["degraded"] == false)
                let hit = try #require(reply.json["results"]?.array?.first)
                #expect(hit["memory_id"] == .int(id) && hit["source"] == "events" && hit["tags"] == [])
                #expect(hit["metadata"] == .object(JSONObject()))
                #expect(hit["similarity_score"]?.double != nil && hit["score"]?.double != nil)
                #expect(hit["created_at"]?.string.flatMap { Timestamp($0) } != nil)
            }
            #expect(posted.json["results"] == got.json["results"])
        }
    }

    @Test("A batch gives a result for each item, and 207 when one failed", .timeLimit(.minutes(5)))
    func batch() async throws {
        try await TestGateway.with { gateway async throws in
            let client = gateway.world.client
            let whole = try await gateway.post(
                "\(remember)/batch", #"{"memories": [{"client_id": \#(client), "content": "a"}]}"#)
            #expect(whole.status == 200)
            let reply = try await gateway.post(
                "\(remember)/batch",
                #"""
                {"memories": [{"client_id": \#(client), "content": "b"}, {"client_id": \#(client)}, 7,
                 {"client_id": "x", "content": "c"}, {"client_id": \#(client), "content": "d"}]}
                """#)
            #expect(reply.status == 207)
            let results = try #require(reply.json["results"]?.array)
            #expect(results.map { $0["memory_id"] != nil } == [true, false, false, false, true])
            #expect(results[1]["error"] == "content is required")
            #expect(results[1]["code"] == "invalid_request" && results[1]["field"] == "content")
            #expect(results[3]["error"] == "client_id must be an integer")
        }
    }

    @Test("A memory is read and deleted by its id and client", .timeLimit(.minutes(5)))
    func record() async throws {
        try await TestGateway.with { gateway async throws in
            let client = gateway.world.client
            let id = try await gateway.remember("to be deleted")
            let path = "/api/v1/memory/\(id)?client_id=\(client)"
            let found = try await gateway.get(path)
            #expect(found.status == 200)
            #expect(found.json["memory_id"] == .int(id) && found.json["content"] == "to be deleted")
            #expect(try await gateway.get("/api/v1/memory/\(id)?client_id=\(client + 1)").status == 404)
            #expect(try await gateway.send(.delete, "/api/v1/memory/\(id)?client_id=\(client + 1)").status == 404)
            let deleted = try await gateway.send(.delete, path)
            #expect(deleted.status == 204 && deleted.text.isEmpty)
            for method in [HTTPRequest.Method.get, .delete] {
                let gone = try await gateway.send(method, path)
                #expect(gone.status == 404)
                #expect(gone.json["error"] == "Entity not found" && gone.json["code"] == "not_found")
            }
        }
    }

    @Test("The same Idempotency-Key gives the same bytes", .timeLimit(.minutes(5)))
    func idempotency() async throws {
        try await TestGateway.with { gateway async throws in
            let body = #"{"client_id": \#(gateway.world.client), "content": "once"}"#
            let first = try await gateway.post(remember, body, headers: [.idempotencyKey: "k"])
            let second = try await gateway.post(remember, body, headers: [.idempotencyKey: "k"])
            #expect(first.status == 200 && second.status == 200)
            #expect(first.text == second.text)
            let other = body.replacing("once", with: "twice")
            let conflict = try await gateway.post(remember, other, headers: [.idempotencyKey: "k"])
            #expect(conflict.status == 409)
            #expect(conflict.json["code"] == "conflict")
        }
    }

    // MARK: Errors

    @Test(
        "What a client sends wrong is a 4xx that names the field", .timeLimit(.minutes(5)),
        arguments: [
            ("", 400, nil), ("{", 400, nil), ("[]", 400, nil), ("null", 400, nil),
            (#"{"content": "x"}"#, 400, "client_id"), (#"{"client_id": 1}"#, 400, "content"),
            (#"{"client_id": "1", "content": "x"}"#, 400, "client_id"),
            (#"{"client_id": 1.5, "content": "x"}"#, 400, "client_id"),
            (#"{"client_id": 1e30, "content": "x"}"#, 400, "client_id"),
            (#"{"client_id": 0, "content": "x"}"#, 400, "client_id"),
            (#"{"client_id": 9223372036854775808, "content": "x"}"#, 400, "client_id"),
            (#"{"client_id": true, "content": "x"}"#, 400, "client_id"),
            (#"{"client_id": 1, "content": ""}"#, 400, "content"),
            (#"{"client_id": 1, "content": 7}"#, 400, "content"),
            (#"{"client_id": 1, "content": "a\u0000b"}"#, 400, "content"),
            (#"{"client_id": 1, "client_id": 2, "content": "x"}"#, 400, nil),
            (#"{"client_id": 1, "content": "x", "tags": "a"}"#, 400, "tags"),
            (#"{"client_id": 1, "content": "x", "tags": [1]}"#, 400, "tags"),
            (#"{"client_id": 1, "content": "x", "metadata": []}"#, 400, "metadata"),
            (#"{"client_id": 1, "content": "x", "metadata": {"n": 1e999}}"#, 400, nil),
            (#"{"client_id": 1, "content": "x", "memory_scope": "galaxy"}"#, 400, "memory_scope"),
            (#"{"client_id": 1, "content": "x", "occurred_at": "yesterday"}"#, 400, "occurred_at"),
            (#"{"client_id": 1, "content": "x", "ttl_seconds": -1}"#, 400, "ttl_seconds"),
            (#"{"client_id": 1, "content": "x", "ttl_seconds": 1e300}"#, 400, "ttl_seconds"),
            (#"{"client_id": 1, "content": "x", "ttl_seconds": 1, "expires_at": "2030-01-01"}"#, 400, "ttl_seconds"),
            (#"{"client_id": 1, "content": "x", "embedding": [1, 2]}"#, 400, "embedding"),
            (#"{"client_id": 1, "content": "x", "embedding": "AAAA"}"#, 400, "embedding"),
        ] as [(String, Int, String?)])
    func badRemember(_ body: String, _ status: Int, _ field: String?) async throws {
        try await TestGateway.with { gateway async throws in
            let reply = try await gateway.post(remember, body)
            #expect(reply.status == status)
            #expect(reply.json["code"] == "invalid_request")
            #expect(reply.json["field"]?.string == field)
            #expect(reply.json["error"]?.string?.isEmpty == false)
            #expect(reply.json["request_id"]?.string == reply.headers[.requestID])
            #expect(try await gateway.world.execute("SELECT count(*) FROM events") == [["0"]])
        }
    }

    @Test(
        "What a recall asks wrong is a 400 that names the field", .timeLimit(.minutes(5)),
        arguments: [
            ("", "client_id"), ("client_id=1", "query"), ("query=x", "client_id"), ("query=x&client_id=a", "client_id"),
            ("query=x&client_id=1&k=0", "k"),
            ("query=x&client_id=1&k=-1", "k"), ("query=x&client_id=1&k=101", "k"),
            ("query=x&client_id=1&k=1000000000000", "k"),
            ("query=x&client_id=1&k=two", "k"), ("query=&client_id=1", "query"), ("query=%00&client_id=1", "query"),
            ("query=x&query=y&client_id=1", "query"), ("query=%ff&client_id=1", nil), ("query=%zz&client_id=1", nil),
            ("query=x&client_id=1&mode=magic", "mode"), ("query=x&client_id=1&sources=events,moon", "sources"),
            ("query=x&client_id=1&scopes=galaxy", "scopes"), ("query=x&client_id=1&since=never", "since"),
            ("query=x&client_id=1&min_score=high", "min_score"),
        ] as [(String, String?)])
    func badRecall(_ query: String, _ field: String?) async throws {
        try await TestGateway.with { gateway async throws in
            let reply = try await gateway.get("\(recall)?\(query)")
            #expect(reply.status == 400)
            #expect(reply.json["field"]?.string == field)
        }
    }

    @Test("Bodies of another type, compressed or too large are refused", .timeLimit(.minutes(5)))
    func bodies() async throws {
        try await TestGateway.with { gateway async throws in
            let body = #"{"client_id": \#(gateway.world.client), "content": "x"}"#
            for type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
                let reply = try await gateway.post(remember, body, headers: [.contentType: type])
                #expect(reply.status == 415)
                #expect(reply.json["request_id"] != nil)
            }
            let packed = try await gateway.post(remember, body, headers: [.contentEncoding: "gzip"])
            #expect(packed.status == 415)
            let charset = try await gateway.post(
                remember, body, headers: [.contentType: "application/json; charset=utf-8"])
            #expect(charset.status == 200)
            let content = String(repeating: "a", count: 65_537)
            let long = try await gateway.post(remember, #"{"client_id": 1, "content": "\#(content)"}"#)
            #expect(long.status == 413 && long.json["code"] == "too_large" && long.json["field"] == "content")
            let huge = try await gateway.post(remember, String(repeating: " ", count: 1 << 20) + body)
            #expect(huge.status == 413 && huge.json["code"] == "too_large")
        }
    }

    @Test(
        "Unknown routes and odd paths are 404, in the shape of every error", .timeLimit(.minutes(5)),
        arguments: [
            "/", "/api/v1/memory", "/api/v2/memory/recall", "/api/v1/memory/recall/x", "/health/none", "/%2e%2e/health",
            "//health//x",
        ])
    func unknown(_ path: String) async throws {
        try await TestGateway.with { gateway async throws in
            let reply = try await gateway.get(path)
            #expect(reply.status == 404)
            #expect(reply.json["code"] == "not_found" && reply.json["request_id"] != nil)
        }
    }

    @Test("A harmless request id is echoed, another is replaced", .timeLimit(.minutes(5)))
    func requestID() async throws {
        try await TestGateway.with { gateway async throws in
            let kept = try await gateway.send(.get, "/health/live", headers: [.requestID: "Trace-1.a_b"])
            #expect(kept.headers[.requestID] == "Trace-1.a_b")
            for id in ["", "a b", "<script>", String(repeating: "x", count: 129), "é"] {
                let reply = try await gateway.send(.get, "/health/live", headers: [.requestID: id])
                #expect(reply.headers[.requestID]?.count == 32)
            }
        }
    }

    // MARK: Stores down

    @Test("Without Qdrant: 207 and a degraded 200, and health says which", .timeLimit(.minutes(5)))
    func withoutQdrant() async throws {
        try await TestGateway.with(own: [.qdrant]) { gateway async throws in
            let client = gateway.world.client
            try await gateway.world.perform(.kill, .qdrant)
            let reply = try await gateway.post(remember, #"{"client_id": \#(client), "content": "tea at four"}"#)
            #expect(reply.status == 207)
            #expect(reply.json["stored_in"] == ["postgres", "valkey"] && reply.json["failed"] == ["qdrant"])
            #expect(reply.json["warning"] == "Vector storage failed, will retry in background")
            let found = try await gateway.get("\(recall)?query=tea&client_id=\(client)")
            #expect(found.status == 200 && found.json["degraded"] == true)
            #expect(found.json["results"]?.array?.first?["similarity_score"] == JSON.null)
            let health = try await gateway.get("/health")
            #expect(health.status == 503 && health.json["status"] == "degraded")
            #expect(health.json["dependencies"] == ["postgres": "up", "qdrant": "down", "valkey": "up"])
            #expect(try await gateway.get("/health/ready").status == 200)
        }
    }

    @Test("Without Postgres: 503 with Retry-After and the outcome, and nothing internal", .timeLimit(.minutes(5)))
    func withoutPostgres() async throws {
        try await TestGateway.with(own: [.postgres]) { gateway async throws in
            let id = try await gateway.remember("tea at four")
            // Its record must not be in the cache, which could stand in.
            let key = RecordKey(id: id, clientID: gateway.world.client)
            try await gateway.memory.cache.drop([key], of: [], deadline: .after(.seconds(10)))
            try await gateway.world.perform(.kill, .postgres)
            let reply = try await gateway.post(remember, #"{"client_id": \#(gateway.world.client), "content": "tea"}"#)
            #expect(reply.status == 503)
            #expect(reply.headers[.retryAfter] == "1")
            #expect(reply.json["error"] == "Primary storage unavailable, please retry")
            #expect(reply.json["code"] == "unavailable" && reply.json["outcome"] == "not_stored")
            #expect(!reply.text.contains("127.0.0.1") && !reply.text.contains("SELECT"))
            #expect(try await gateway.get("\(recall)?query=tea&client_id=\(gateway.world.client)").status == 503)
            #expect(try await gateway.get("/api/v1/memory/\(id)?client_id=\(gateway.world.client)").status == 503)
            #expect(try await gateway.get("/health/ready").status == 503)
            #expect(try await gateway.get("/health/live").status == 200)
        }
    }

    @Test("Health names every store, its uptime and version", .timeLimit(.minutes(5)))
    func health() async throws {
        try await TestGateway.with { gateway async throws in
            let reply = try await gateway.get("/health")
            #expect(reply.status == 200 && reply.json["status"] == "healthy")
            #expect(reply.json["dependencies"] == ["postgres": "up", "qdrant": "up", "valkey": "up"])
            #expect(reply.json["version"]?.string == GatewayVersion.current)
            #expect((reply.json["uptime_seconds"]?.int ?? -1) >= 0)
        }
    }
}
