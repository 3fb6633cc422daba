import Hummingbird
import MemoryCore

enum EventRoutes {
    private static let path = "/api/v1/memory/events"
    private static let type = Endpoint.Parameter.query(
        "event_type", Schema.string(1...100), "Only events of this type.", example: "task.created")
    private static let source = Endpoint.Parameter.query(
        "event_source", Schema.string(1...50), "Only events from this source.", example: "n8n")

    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .post, path: path, tag: "Events", summary: "Stores what happened", tenancy: .optionalClient(.body),
            writes: true, body: .json("EventDraft"), answers: [.created("Event")], errors: [413, 422]
        ) { call in
            let event = try await call.memory.log(try EventDraft(call.body, owner: try call.tenant.requiredOwner()))
            return .json(event.json.encoded, status: .created)
        },
        Endpoint(
            method: .get, path: path, tag: "Events", summary: "Events, memories included, newest first",
            tenancy: .optionalClient(.query), writes: false,
            parameters: [
                type, source,
                .query(
                    "start_date", Schema.timestamp, "Stored at this moment or later.", example: "2026-01-01T00:00:00Z"),
                .query(
                    "end_date", Schema.timestamp, "Stored at this moment or earlier.", example: "2026-12-31T00:00:00Z"),
            ] + Endpoint.Parameter.page, answers: [.ok("EventPage")]
        ) { call in
            .page(
                try await call.memory.events(try EventFilter(call), page: try PageRequest(call.queryFields)), \.json)
        },
        Endpoint(
            method: .get, path: path + "/stats", tag: "Events",
            summary: "How many events there are, by type and source",
            tenancy: .optionalClient(.query), writes: false,
            parameters: [.since("Only events stored at this moment or later.")], answers: [.ok("EventStatistics")]
        ) { call in
            var filter = try EventFilter(call)
            filter.since = try call.queryFields.timestamp("since")
            return .json(try await call.memory.eventStatistics(filter).json.encoded)
        },
        Endpoint(
            method: .get, path: path + "/stream", tag: "Events",
            summary: "Events as they are stored (server-sent events); resumes after `Last-Event-ID`",
            tenancy: .optionalClient(.query), writes: false, parameters: [type, source],
            answers: [
                Endpoint.Answer(
                    status: .ok, schema: nil,
                    text: """
                        One event each: `id`, `event` (its type), `data` (as JSON). An `event: error` without an id, whose \
                        data is an error, is the end: go on with `Last-Event-ID`.
                        """,
                    contentType: "text/event-stream")
            ]
        ) { call in
            try await EventStreamRoute.response(call, try EventFilter(call))
        },
        Endpoint(
            method: .get, path: path + "/{id}", tag: "Events", summary: "One event", tenancy: .optionalClient(.query),
            writes: false, parameters: [.path("id", Schema.rowID, "The event's id.", example: 42)],
            answers: [.ok("Event")], errors: [404]
        ) { call in
            .json(try await call.memory.event(try call.id("id"), of: call.tenant.owners).json.encoded)
        },
    ]

    static let schemas: [(String, JSON)] = [
        (
            "EventDraft",
            Schema.draft(
                [
                    "event_type": Schema.string(1...100), "event_source": Schema.string(1...50),
                    "client_id": Schema.clientID, "shared": Schema.boolean, "payload": Schema.anyObject,
                    "metadata": Schema.anyObject,
                ], optional: ["client_id", "shared", "metadata"],
                example: [
                    "event_type": "task.created", "event_source": "n8n", "client_id": 1,
                    "payload": ["task_id": "coda:task-123"],
                ])
        ),
        (
            "Event",
            Schema.object([
                "id": Schema.rowID, "event_type": Schema.string(), "event_source": Schema.string(),
                "client_id": Schema.nullable(Schema.clientID), "payload": Schema.anything,
                "metadata": Schema.anything, "created_at": Schema.timestamp,
            ])
        ), ("EventPage", Schema.page("Event")),
        (
            "EventStatistics",
            Schema.object([
                "total": Schema.integer(), "by_type": counts, "by_source": counts,
            ])
        ),
    ]

    private static let counts: JSON = ["type": "object", "additionalProperties": Schema.integer()]
}

extension EventDraft {
    fileprivate init(_ object: JSONObject, owner: Owner) throws(MemoryError) {
        let fields = FieldReader(object)
        _ = try fields.required("payload")
        self.init(
            type: try fields.requiredString("event_type"), source: try fields.requiredString("event_source"),
            owner: owner, payload: try fields.object("payload") ?? JSONObject())
        metadata = try fields.object("metadata") ?? JSONObject()
    }
}

extension EventFilter {
    fileprivate init(_ call: Call) throws(MemoryError) {
        self.init(of: call.tenant.owners)
        type = try call.queryFields.string("event_type")
        source = try call.queryFields.string("event_source")
        since = try call.queryFields.timestamp("start_date")
        until = try call.queryFields.timestamp("end_date")
    }
}

extension Event {
    var json: JSON {
        [
            "id": .int(id), "event_type": .string(type), "event_source": .string(source),
            "client_id": .optional(clientID), "payload": payload, "metadata": metadata,
            "created_at": .string(createdAt.description),
        ]
    }
}

extension EventStatistics {
    fileprivate var json: JSONObject {
        func object(_ counts: [(name: String, count: Int)]) -> JSON {
            .object(counts.reduce(into: JSONObject()) { $0[$1.name] = .int(Int64($1.count)) })
        }
        return ["total": .int(Int64(total)), "by_type": object(byType), "by_source": object(bySource)]
    }
}
