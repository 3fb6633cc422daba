import Hummingbird
import MemoryCore

/// Short-term memory of conversations.
enum SessionRoutes {
    private static let path = "/api/v1/memory/sessions/{session_id}"
    private static let id = Endpoint.Parameter.path(
        "session_id", Schema.string(1...256), "The conversation; a `/` in it is `%2F`.", example: "s-1")

    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .post, path: path + "/messages", tag: "Sessions", summary: "Adds messages to a conversation",
            tenancy: .client(.body), writes: true, parameters: [id], body: .json("MessagesDraft", maxBytes: 8 << 20),
            answers: [.created("MessagesAdded")], errors: [413]
        ) { call in
            let session = try call.text("session_id")
            let messages = try SessionMessage.list(call.body)
            let count = try await call.memory.append(messages, to: session, client: try call.requiredClient())
            let body: JSON = [
                "session_id": .string(session), "added": .int(Int64(messages.count)),
                "message_count": .int(Int64(count)),
            ]
            return .json(body.encoded, status: .created)
        },
        Endpoint(
            method: .get, path: path + "/messages", tag: "Sessions", summary: "The last messages, oldest first",
            tenancy: .client(.query), writes: false,
            parameters: [
                id, .query("last", Schema.integer(1...1000), "How many at most; 20 unless given.", example: 20),
            ], answers: [.ok("Messages")]
        ) { call in
            let session = try call.text("session_id")
            let messages = try await call.memory.messages(
                of: session, client: try call.requiredClient(), last: try call.queryFields.int("last") ?? 20)
            let body: JSON = [
                "session_id": .string(session), "messages": .array(messages.map { .object($0.json) }),
            ]
            return .json(body.encoded)
        },
        Endpoint(
            method: .get, path: path + "/state", tag: "Sessions", summary: "The conversation's state",
            tenancy: .client(.query), writes: false, parameters: [id], answers: [.ok("SessionState")], errors: [404]
        ) { call in
            let state = try await call.memory.state(
                of: try call.text("session_id"), client: try call.requiredClient())
            return .json(state.encoded)
        },
        Endpoint(
            method: .put, path: path + "/state", tag: "Sessions", summary: "Keeps the conversation's state",
            tenancy: .client(.query), writes: true, parameters: [id], body: .json("SessionState"),
            answers: [.ok("SessionState")], errors: [413]
        ) { call in
            try await call.memory.setState(
                call.body, of: try call.text("session_id"), client: try call.requiredClient())
            return .json(call.body.encoded)
        },
        Endpoint(
            method: .delete, path: path + "/state", tag: "Sessions", summary: "Forgets the conversation's state",
            tenancy: .client(.query), writes: true, parameters: [id], answers: [.gone], errors: [404]
        ) { call in
            try await call.memory.deleteState(of: try call.text("session_id"), client: try call.requiredClient())
            return Response(status: .noContent)
        },
        Endpoint(
            method: .delete, path: path, tag: "Sessions", summary: "Forgets a conversation", tenancy: .client(.query),
            writes: true, parameters: [id], answers: [.gone], errors: [404]
        ) { call in
            try await call.memory.deleteSession(try call.text("session_id"), client: try call.requiredClient())
            return Response(status: .noContent)
        },
    ]

    static let schemas: [(String, JSON)] = [
        (
            "MessagesDraft",
            Schema.draft(
                [
                    "client_id": Schema.clientID,
                    "messages": Schema.array(
                        Schema.draft(
                            [
                                "role": Schema.string(1...50), "content": Schema.string(1...65_536),
                                "metadata": Schema.anyObject,
                            ], optional: ["metadata"]), 1...100),
                ],
                example: ["client_id": 1, "messages": [["role": "user", "content": "When do I have time to think?"]]])
        ),
        (
            "MessagesAdded",
            Schema.object([
                "session_id": Schema.string(), "added": Schema.integer(1...100),
                "message_count": Schema.integer(1...1000),
            ])
        ),
        (
            "Messages",
            Schema.object([
                "session_id": Schema.string(),
                "messages": Schema.array(
                    Schema.object([
                        "role": Schema.string(), "content": Schema.string(), "metadata": Schema.anyObject,
                        "created_at": Schema.timestamp,
                    ])),
            ])
        ), ("SessionState", ["type": "object", "example": ["topic": "invoices"]]),
    ]
}

extension SessionMessage {
    fileprivate static func list(_ object: JSONObject) throws(MemoryError) -> [SessionMessage] {
        guard let items = try FieldReader(object).required("messages").array else {
            throw MemoryError(invalid: "messages must be an array", field: "messages")
        }
        return try items.map { item throws(MemoryError) in
            guard let item = item.object else {
                throw MemoryError(invalid: "a message must be an object", field: "messages")
            }
            let fields = FieldReader(item)
            return SessionMessage(
                role: try fields.requiredString("role"), content: try fields.requiredString("content"),
                metadata: try fields.object("metadata") ?? JSONObject())
        }
    }
}
