import Hummingbird
import MemoryCore

/// Reflections and agent memories: records with vectors in collections of their own.
enum KindRoutes {
    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .post, path: "/api/v1/memory/reflections", tag: "Reflections",
            summary: "Stores a reflection on a day or a week", tenancy: .client(.body), writes: true,
            body: .json("ReflectionDraft"), answers: [.created("KindReceipt"), .partly("KindReceipt")],
            errors: [409, 413, 422], takesIdempotencyKey: true, handle: reflect),
        Endpoint(
            method: .get, path: "/api/v1/memory/reflections", tag: "Reflections",
            summary: "A client's reflections, newest first", tenancy: .client(.query), writes: false,
            parameters: [
                .query("mode", Schema.choice(RecordKind.Reflection.Mode.self), "Only these.", example: "daily")
            ] + Endpoint.Parameter.page, answers: [.ok("ReflectionPage")]
        ) { call in
            let mode = try call.queryFields.choice("mode", RecordKind.Reflection.Mode.self)
            let page = try PageRequest(call.queryFields)
            return .page(
                try await call.memory.reflections(client: try call.requiredClient(), mode: mode, page: page),
                Self.reflection)
        },
        Endpoint(
            method: .post, path: "/api/v1/memory/agent-memories", tag: "Agent memories",
            summary: "Stores what an extractor has distilled; one of the same memory_id is replaced",
            tenancy: .client(.body), writes: true, body: .json("AgentMemoryDraft"),
            answers: [.created("KindReceipt"), .partly("KindReceipt")], errors: [409, 413, 422],
            takesIdempotencyKey: true, handle: rememberDistilled),
    ]

    @Sendable private static func reflect(_ call: Call) async throws -> Response {
        let fields = call.bodyFields
        _ = try fields.required("mode")
        let reflection = RecordKind.Reflection(
            mode: try fields.choice("mode", RecordKind.Reflection.Mode.self) ?? .daily,
            date: try fields.requiredString("reflection_date"), metrics: try fields.object("metrics") ?? JSONObject())
        let receipt = try await call.memory.reflect(
            try fields.requiredString("content"), client: try call.requiredClient(), on: reflection,
            idempotencyKey: call.request.headers[.idempotencyKey])
        return receipt.response(["reflection_id": .int(receipt.memoryID)])
    }

    @Sendable private static func rememberDistilled(_ call: Call) async throws -> Response {
        let fields = call.bodyFields
        _ = try fields.required("memory_type")
        var object = call.bodyWithClient
        object["memory_id"] = nil
        let draft = try MemoryDraft(object)
        let key = call.request.headers[.idempotencyKey]
        let id =
            try fields.string("memory_id") ?? key.map { Memory.distilledID(draft, idempotencyKey: $0) }
            ?? RequestID.fresh()
        let receipt = try await call.memory.rememberDistilled(draft, id: id, idempotencyKey: key)
        return receipt.response(["memory_id": .string(id), "event_id": .int(receipt.memoryID)])
    }

    private static func reflection(_ record: MemoryRecord) -> JSON {
        var object: JSONObject = [
            "reflection_id": .int(record.id), "client_id": .int(Int64(record.clientID)),
            "content": .string(record.content), "created_at": .string(record.createdAt.description),
        ]
        if case .reflection(let reflection) = record.kind {
            object["mode"] = .string(reflection.mode.rawValue)
            object["reflection_date"] = .string(reflection.date)
            object["metrics"] = .object(reflection.metrics)
        }
        return .object(object)
    }

    static let schemas: [(String, JSON)] = [
        (
            "ReflectionDraft",
            Schema.draft(
                [
                    "client_id": Schema.clientID, "mode": Schema.choice(RecordKind.Reflection.Mode.self),
                    "reflection_date": ["type": "string", "format": "date"], "content": Schema.string(1...65_536),
                    "metrics": Schema.anyObject,
                ], optional: ["metrics"],
                example: [
                    "client_id": 1, "mode": "daily", "reflection_date": "2026-05-07",
                    "content": "The invoices went out a day early.", "metrics": ["planned_hours": 6],
                ])
        ),
        (
            "ReflectionPage",
            Schema.object([
                "items": Schema.array(
                    Schema.object([
                        "reflection_id": Schema.rowID, "client_id": Schema.clientID, "content": Schema.string(),
                        "created_at": Schema.timestamp, "mode": Schema.choice(RecordKind.Reflection.Mode.self),
                        "reflection_date": Schema.string(), "metrics": Schema.anyObject,
                    ])), "next_cursor": Schema.nullable(Schema.string()),
            ])
        ),
        (
            "AgentMemoryDraft",
            Schema.draft(
                [
                    "client_id": Schema.clientID, "memory_id": Schema.string(1...256),
                    "memory_type": Schema.string(1...50), "content": Schema.string(1...65_536), "tags": Schema.tags,
                    "metadata": Schema.anyObject,
                ], optional: ["memory_id", "tags", "metadata"],
                example: [
                    "client_id": 1, "memory_id": "mem0-7f3", "memory_type": "preference",
                    "content": "Prefers mornings for deep work",
                ])
        ),
        (
            "KindReceipt",
            Schema.object(
                [
                    "reflection_id": Schema.rowID, "memory_id": Schema.string(), "event_id": Schema.rowID,
                    "client_id": Schema.clientID, "stored_in": Schema.stores, "failed": Schema.stores,
                    "warning": Schema.string(), "created_at": Schema.timestamp,
                ], optional: ["reflection_id", "memory_id", "event_id", "failed", "warning"])
        ),
    ]
}

extension RememberReceipt {
    /// 201, or 207 when a store does not have it yet, with the ids that the route gives it.
    fileprivate func response(_ ids: JSONObject) -> Response {
        var object = ids
        object["client_id"] = .int(Int64(clientID))
        object["stored_in"] = .array(storedIn.map { .string($0.description) })
        if let warning {
            object["failed"] = .array(failed.map { .string($0.description) })
            object["warning"] = .string(warning)
        }
        object["created_at"] = .string(createdAt.description)
        return .json(object.encoded, status: failed.isEmpty ? .created : .multiStatus)
    }
}
