import Hummingbird
import MemoryCore

/// One memory by its id.
enum RecordRoutes {
    private static let path = "/api/v1/memory/{memory_id}"
    private static let id = Endpoint.Parameter.path("memory_id", Schema.rowID, "The memory's id.", example: 42)

    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .get, path: path, tag: "Memories", summary: "One memory", tenancy: .client(.query), writes: false,
            parameters: [id], answers: [.ok("Memory")], errors: [404]
        ) { call in
            .json(try await call.memory.memory(try call.id("memory_id"), client: try call.requiredClient()).encoded)
        },
        Endpoint(
            method: .patch, path: path, tag: "Memories", summary: "Changes a memory; what it was is kept",
            tenancy: .client(.query), writes: true, parameters: [id], body: .json("MemoryPatch"),
            answers: [.ok("Memory")], errors: [404, 413]
        ) { call in
            let record = try await call.memory.update(
                try call.id("memory_id"), client: try call.requiredClient(), try MemoryPatch(call.body))
            return .json(record.encoded)
        },
        Endpoint(
            method: .delete, path: path, tag: "Memories", summary: "Forgets a memory", tenancy: .client(.query),
            writes: true, parameters: [id], answers: [.gone], errors: [404]
        ) { call in
            try await call.memory.delete(try call.id("memory_id"), client: try call.requiredClient())
            return Response(status: .noContent)
        },
        Endpoint(
            method: .get, path: path + "/history", tag: "Memories", summary: "What a memory was before each change",
            tenancy: .client(.query), writes: false, parameters: [id], answers: [.ok("MemoryHistory")], errors: [404]
        ) { call in
            let versions = try await call.memory.history(
                of: try call.id("memory_id"), client: try call.requiredClient())
            return .items(versions.map(\.json))
        },
    ]

    static let schemas: [(String, JSON)] = [
        ("Memory", memory(hit: false)),
        (
            "MemoryPatch",
            Schema.draft(
                [
                    "content": Schema.string(1...65_536), "tags": Schema.tags, "metadata": Schema.anyObject,
                    "expires_at": Schema.nullable(Schema.timestamp),
                ], optional: ["content", "tags", "metadata", "expires_at"], example: ["tags": ["work", "morning"]])
        ),
        (
            "MemoryHistory",
            Schema.object([
                "items": Schema.array(
                    Schema.object([
                        "version": Schema.integer(1...Int64(Int32.max)), "content": Schema.string(),
                        "tags": Schema.tags, "metadata": Schema.anyObject, "changed_at": Schema.timestamp,
                    ]))
            ])
        ),
    ]

    /// A memory, alone or as a hit of a recall.
    static func memory(hit: Bool) -> JSON {
        var members: [(String, JSON)] = [
            ("memory_id", Schema.rowID), ("content", Schema.string()), ("memory_type", Schema.string()),
            ("tags", Schema.tags), ("metadata", Schema.anyObject), ("created_at", Schema.timestamp),
            ("memory_scope", Schema.choice(MemoryScope.self)),
        ]
        if hit {
            members += [
                ("similarity_score", Schema.nullable(Schema.number(0...1))), ("score", Schema.number()),
            ]
        } else {
            members.append(("client_id", Schema.clientID))
        }
        let required = members.map(\.0) + (hit ? ["source"] : [])
        members += [
            ("source", Schema.choice(RecallRequest.Source.self)), ("session_id", Schema.string()),
            ("run_id", Schema.string()), ("occurred_at", Schema.timestamp), ("expires_at", Schema.timestamp),
            ("agent_memory_id", Schema.string()), ("mode", Schema.choice(RecordKind.Reflection.Mode.self)),
            ("reflection_date", Schema.string()), ("metrics", Schema.anyObject),
        ]
        var properties = JSONObject()
        for (name, schema) in members { properties[name] = schema }
        return [
            "type": "object", "properties": .object(properties), "required": .array(required.map(JSON.string)),
        ]
    }
}

extension MemoryVersion {
    fileprivate var json: JSON {
        [
            "version": .int(Int64(version)), "content": .string(content), "tags": .array(tags.map(JSON.string)),
            "metadata": .object(metadata), "changed_at": .string(changedAt.description),
        ]
    }
}

extension Response {
    /// A list that is answered whole.
    static func items(_ items: [JSON]) -> Response { .json(JSONObject(items: items).encoded) }

    /// A page of a list.
    static func page<Item>(_ page: Page<Item>, _ json: (Item) -> JSON) -> Response {
        var object = JSONObject(items: page.items.map(json))
        object["next_cursor"] = page.nextCursor.map(JSON.string) ?? .null
        return .json(object.encoded)
    }
}

extension JSONObject {
    fileprivate init(items: [JSON]) { self = ["items": .array(items)] }
}

extension JSON {
    /// The text, or null.
    static func optional(_ text: String?) -> JSON { text.map(JSON.string) ?? .null }

    /// The number, or null.
    static func optional(_ number: Double?) -> JSON { number.map(JSON.double) ?? .null }

    /// The number, or null.
    static func optional(_ number: Int?) -> JSON { number.map { .int(Int64($0)) } ?? .null }

    /// The moment, or null.
    static func optional(_ moment: Timestamp?) -> JSON { .optional(moment?.description) }
}
