import HTTPTypes
import Hummingbird
import MemoryCore

enum RememberRoutes {
    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .post, path: "/api/v1/memory/remember", tag: "Memories", summary: "Remembers one thing",
            tenancy: .client(.body), writes: true, body: .json("MemoryDraft"),
            answers: [.ok("Receipt", "Every store has it."), .partly("Receipt")], errors: [409, 413, 422],
            takesIdempotencyKey: true
        ) { call in
            let receipt = try await call.memory.remember(
                try MemoryDraft(call.bodyWithClient), idempotencyKey: call.request.headers[.idempotencyKey])
            return .json(receipt)
        },
        Endpoint(
            method: .post, path: "/api/v1/memory/remember/batch", tag: "Memories",
            summary: "Remembers up to 256 things; an invalid one fails alone", tenancy: .clients(inItemsOf: "memories"),
            writes: true, body: .json("MemoryBatch", maxBytes: 16 << 20),
            answers: [.ok("BatchResult", "Every store has all of them."), .partly("BatchResult")],
            errors: [409, 413, 422], takesIdempotencyKey: true, handle: rememberBatch),
    ]

    @Sendable private static func rememberBatch(_ call: Call) async throws -> Response {
        let drafts = try MemoryDraft.batch(call.body, client: call.tenant.owner?.clientID)
        let results = try await call.memory.remember(
            drafts, idempotencyKey: call.request.headers[.idempotencyKey])
        var writer = JSONWriter(capacity: results.count * 192)
        writer.beginObject()
        writer.key("results")
        writer.beginArray()
        var isComplete = true
        for result in results {
            switch result {
            case .success(let receipt):
                receipt.write(to: &writer)
                isComplete = isComplete && receipt.failed.isEmpty
            case .failure(let error):
                ErrorAnswer.Problem(error).write(to: &writer, requestID: nil)
                isComplete = false
            }
        }
        writer.endArray()
        writer.endObject()
        return .json(writer.bytes, status: isComplete ? .ok : .multiStatus)
    }

    static let schemas: [(String, JSON)] = [
        (
            "MemoryDraft",
            Schema.draft(
                draft, optional: Set(draft.map(\.key)).subtracting(["client_id", "content"]),
                example: [
                    "client_id": 1, "content": "User prefers morning deep work", "memory_type": "fact",
                    "memory_scope": "user", "session_id": "s-1", "tags": ["work"], "metadata": ["source": "chat"],
                ])
        ), ("MemoryBatch", Schema.object(["memories": Schema.array(Schema.ref("MemoryDraft"), 1...256)])),
        ("Receipt", receipt),
        (
            "BatchResult",
            Schema.object([
                "results": Schema.array([
                    "anyOf": [
                        Schema.ref("Receipt"),
                        Schema.object(
                            ["error": Schema.string(), "code": Schema.string(), "field": Schema.string()],
                            optional: ["field"]),
                    ]
                ])
            ])
        ),
    ]

    private static let draft: KeyValuePairs<String, JSON> = [
        "client_id": Schema.clientID, "content": Schema.string(1...65_536, "The text, at most 65,536 bytes."),
        "memory_type": Schema.string(1...50, "fact, event, preference, observation, decision, episode, …"),
        "memory_scope": Schema.choice(MemoryScope.self), "session_id": Schema.string(1...256),
        "run_id": Schema.string(1...256), "tags": Schema.tags, "metadata": Schema.anyObject,
        "occurred_at": Schema.timestamp, "expires_at": Schema.timestamp,
        "ttl_seconds": Schema.number(0.001...3_155_760_000), "embedding": Schema.array(Schema.number(), 1536...1536),
    ]

    private static let receipt = Schema.object(
        [
            "memory_id": Schema.rowID, "client_id": Schema.clientID, "stored_in": Schema.stores,
            "failed": Schema.stores, "warning": Schema.string(), "created_at": Schema.timestamp,
        ], optional: ["failed", "warning"],
        example: [
            "memory_id": 42, "client_id": 1, "stored_in": ["postgres", "qdrant", "valkey"],
            "created_at": "2026-05-07T14:30:00Z",
        ])
}

extension Response {
    /// A receipt: 200, or 207 when a store does not have it yet.
    static func json(_ receipt: RememberReceipt) -> Response {
        var writer = JSONWriter()
        receipt.write(to: &writer)
        return .json(writer.bytes, status: receipt.failed.isEmpty ? .ok : .multiStatus)
    }
}
