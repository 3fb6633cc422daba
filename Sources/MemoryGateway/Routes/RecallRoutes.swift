import Hummingbird
import MemoryCore

enum RecallRoutes {
    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .get, path: "/api/v1/memory/recall", tag: "Memories",
            summary: "Finds the memories that answer a question best", tenancy: .client(.query), writes: false,
            parameters: [
                .query(
                    "query", Schema.string(1...4096), "The question; a longer one goes by POST.",
                    example: "when does she focus best?",
                    isRequired: true),
                .limit(5), .query("mode", Schema.choice(RecallRequest.Mode.self), "How to search.", example: "hybrid"),
                .query("memory_type", Schema.string(1...50), "Only memories of this type.", example: "fact"),
                .query(
                    "scopes", Schema.string(0...256), "Only these scopes, with commas between.", example: "user,session"
                ),
                .query("session_id", Schema.string(1...256), "Only this conversation.", example: "s-1"),
                .query(
                    "tags", Schema.string(0...1024), "Only memories with all of these, commas between.", example: "work"
                ),
                .since("Only what happened at this moment or later."),
                .query(
                    "until", Schema.timestamp, "Only what happened at this moment or earlier.",
                    example: "2026-12-31T00:00:00Z"),
                .query("min_score", Schema.number(), "Only hits whose `score` is at least this.", example: 0.1),
                .query(
                    "sources", Schema.string(1...64), "Where to search, with commas between.",
                    example: "events,agent_memories"),
            ], answers: [.ok("RecallAnswer")]
        ) { call in try await recall(call, RecallRequest(call.queryWithClient)) },
        Endpoint(
            method: .post, path: "/api/v1/memory/recall", tag: "Memories",
            summary: "Finds the memories that answer a question best, with every filter", tenancy: .client(.body),
            writes: false, body: .json("RecallRequest"), answers: [.ok("RecallAnswer")], errors: [413]
        ) { call in try await recall(call, RecallRequest(call.bodyWithClient)) },
    ]

    private static func recall(_ call: Call, _ request: RecallRequest) async throws -> Response {
        let answer = try await call.memory.recall(request)
        var writer = JSONWriter(capacity: 256 + answer.encodedHits.count)
        writer.beginObject()
        writer.key("query")
        writer.string(request.query)
        writer.key("client_id")
        writer.int(request.clientID)
        writer.key("result_count")
        writer.int(answer.count)
        writer.key("cached")
        writer.bool(answer.isCached)
        writer.key("degraded")
        writer.bool(answer.isDegraded)
        writer.key("search_time_ms")
        writer.double((answer.duration.milliseconds * 1000).rounded() / 1000)
        writer.key("results")
        writer.raw(answer.encodedHits)
        writer.endObject()
        return .json(writer.bytes)
    }

    static let schemas: [(String, JSON)] = [
        (
            "RecallRequest",
            Schema.draft(
                [
                    "query": Schema.string(1...8192), "client_id": Schema.clientID, "k": Schema.integer(1...100),
                    "mode": Schema.choice(RecallRequest.Mode.self), "memory_type": Schema.string(1...50),
                    "scopes": Schema.list(Schema.choice(MemoryScope.self)), "session_id": Schema.string(1...256),
                    "tags": Schema.list(Schema.string(1...256)), "since": Schema.timestamp, "until": Schema.timestamp,
                    "min_score": Schema.number(),
                    "sources": Schema.list(Schema.choice(RecallRequest.Source.self)),
                    "metadata": ["type": "object", "maxProperties": .int(Int64(Limits.filterMembers))],
                ],
                optional: [
                    "k", "mode", "memory_type", "scopes", "session_id", "tags", "since", "until", "min_score",
                    "sources", "metadata",
                ],
                example: ["query": "when does she focus best?", "client_id": 1, "k": 5, "metadata": ["source": "chat"]])
        ),
        (
            "RecallAnswer",
            Schema.object([
                "query": Schema.string(), "client_id": Schema.clientID, "result_count": Schema.integer(0...100),
                "cached": Schema.boolean, "degraded": Schema.boolean, "search_time_ms": Schema.number(),
                "results": Schema.array(Schema.ref("RecallHit")),
            ])
        ), ("RecallHit", RecordRoutes.memory(hit: true)),
    ]
}
