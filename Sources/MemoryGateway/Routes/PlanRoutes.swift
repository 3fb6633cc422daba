import Hummingbird
import MemoryCore

enum PlanRoutes {
    private static let path = "/api/v1/memory/plans"
    private static let id = Endpoint.Parameter.path("id", Schema.rowID, "The plan's id.", example: 7)

    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .post, path: path, tag: "Plans", summary: "Stores a plan, as a draft",
            tenancy: .optionalClient(.body), writes: true, body: .json("PlanDraft"), answers: [.created("Plan")],
            errors: [413, 422]
        ) { call in
            let plan = try await call.memory.createPlan(
                try PlanDraft(call.body, owner: try call.tenant.requiredOwner()))
            return .json(plan.json.encoded, status: .created)
        },
        Endpoint(
            method: .get, path: path, tag: "Plans", summary: "Plans, newest first", tenancy: .optionalClient(.query),
            writes: false,
            parameters: [
                .query("status", Schema.choice(Plan.Status.self), "Only plans that stand there.", example: "draft")
            ] + Endpoint.Parameter.page, answers: [.ok("PlanPage")]
        ) { call in
            let status = try call.queryFields.choice("status", Plan.Status.self)
            let page = try PageRequest(call.queryFields)
            return .page(try await call.memory.plans(of: call.tenant.owners, status: status, page: page), \.json)
        },
        Endpoint(
            method: .get, path: path + "/{id}", tag: "Plans", summary: "One plan", tenancy: .optionalClient(.query),
            writes: false, parameters: [id], answers: [.ok("Plan")], errors: [404]
        ) { call in .json(try await call.memory.plan(try call.id("id"), of: call.tenant.owners).json.encoded) },
        Endpoint(
            method: .patch, path: path + "/{id}", tag: "Plans",
            summary: "Changes a plan; its status moves draft → scheduled → active → completed, and scheduled → draft",
            tenancy: .optionalClient(.query), writes: true, parameters: [id], body: .json("PlanPatch"),
            answers: [.ok("Plan")], errors: [404, 413, 422]
        ) { call in
            let plan = try await call.memory.updatePlan(
                try call.id("id"), of: call.tenant.owners, try PlanPatch(call.body))
            return .json(plan.json.encoded)
        },
        Endpoint(
            method: .post, path: path + "/{id}/schedules", tag: "Plans", summary: "Gives a plan's steps their times",
            tenancy: .optionalClient(.query), writes: true, parameters: [id], body: .json("ScheduleDraft"),
            answers: [.created("Schedule")], errors: [404, 413, 422]
        ) { call in
            let schedule = try await call.memory.schedulePlan(
                try call.id("id"), of: call.tenant.owners, blocks: try Schedule.Block.list(call.body))
            return .json(schedule.json.encoded, status: .created)
        },
        Endpoint(
            method: .get, path: path + "/{id}/schedules", tag: "Plans", summary: "A plan's schedules, newest first",
            tenancy: .optionalClient(.query), writes: false, parameters: [id] + Endpoint.Parameter.page,
            answers: [.ok("SchedulePage")], errors: [404]
        ) { call in
            let page = try PageRequest(call.queryFields)
            return .page(
                try await call.memory.schedules(
                    of: try call.id("id"), owners: call.tenant.owners, page: page), \.json)
        },
    ]

    private static let sop: JSON = ["type": ["object", "array"], "description": "The standard operating procedure."]

    static let schemas: [(String, JSON)] = [
        (
            "PlanDraft",
            Schema.draft(
                [
                    "plan_title": Schema.string(0...500), "intent": Schema.string(1...65_536), "sop": sop,
                    "client_id": Schema.clientID, "shared": Schema.boolean, "metadata": Schema.anyObject,
                ], optional: ["client_id", "shared", "metadata"],
                example: [
                    "plan_title": "Send the invoices", "intent": "Have all invoices of May out by Friday",
                    "sop": ["steps": [["order": 1, "action": "List open work"]]], "client_id": 1,
                ])
        ),
        (
            "PlanPatch",
            Schema.draft(
                [
                    "plan_title": Schema.string(1...500), "intent": Schema.string(1...65_536), "sop": sop,
                    "metadata": Schema.anyObject, "status": Schema.choice(Plan.Status.self),
                ], optional: ["plan_title", "intent", "sop", "metadata", "status"], example: ["status": "scheduled"])
        ),
        (
            "Plan",
            Schema.object([
                "id": Schema.rowID, "plan_title": Schema.string(), "intent": Schema.string(), "sop": Schema.anything,
                "client_id": Schema.nullable(Schema.clientID), "status": Schema.choice(Plan.Status.self),
                "metadata": Schema.anyObject, "created_at": Schema.timestamp, "updated_at": Schema.timestamp,
            ])
        ), ("PlanPage", Schema.page("Plan")),
        (
            "ScheduleDraft",
            Schema.draft(
                [
                    "schedule_blocks": Schema.array(
                        Schema.draft(
                            [
                                "start": Schema.timestamp, "end": Schema.timestamp, "task_id": Schema.string(1...255),
                                "calendar_event_id": Schema.string(1...255),
                            ], optional: ["calendar_event_id"]), 1...500)
                ],
                example: [
                    "schedule_blocks": [
                        ["start": "2026-05-08T08:00:00Z", "end": "2026-05-08T09:30:00Z", "task_id": "coda:task-123"]
                    ]
                ])
        ),
        (
            "Schedule",
            Schema.object([
                "id": Schema.rowID, "plan_id": Schema.rowID, "schedule_blocks": Schema.anything,
                "client_id": Schema.nullable(Schema.clientID), "status": Schema.string(),
                "created_at": Schema.timestamp,
            ])
        ), ("SchedulePage", Schema.page("Schedule")),
    ]
}

extension PlanDraft {
    fileprivate init(_ object: JSONObject, owner: Owner) throws(MemoryError) {
        let fields = FieldReader(object)
        self.init(
            title: try fields.requiredString("plan_title"), intent: try fields.requiredString("intent"),
            sop: try fields.required("sop"), owner: owner)
        metadata = try fields.object("metadata") ?? JSONObject()
    }
}

extension PlanPatch {
    fileprivate init(_ object: JSONObject) throws(MemoryError) {
        let fields = FieldReader(object)
        self.init(
            title: try fields.string("plan_title"), intent: try fields.string("intent"), sop: fields["sop"],
            metadata: try fields.object("metadata"), status: try fields.choice("status", Plan.Status.self))
    }
}

extension Plan {
    fileprivate var json: JSON {
        [
            "id": .int(id), "plan_title": .string(title), "intent": .string(intent), "sop": sop,
            "client_id": .optional(clientID), "status": .string(status.rawValue), "metadata": .object(metadata),
            "created_at": .string(createdAt.description), "updated_at": .string(updatedAt.description),
        ]
    }
}

extension Schedule.Block {
    fileprivate static func list(_ object: JSONObject) throws(MemoryError) -> [Schedule.Block] {
        guard let items = try FieldReader(object).required("schedule_blocks").array else {
            throw MemoryError(invalid: "schedule_blocks must be an array", field: "schedule_blocks")
        }
        return try items.map { item throws(MemoryError) in
            guard let item = item.object else {
                throw MemoryError(invalid: "a block must be an object", field: "schedule_blocks")
            }
            let fields = FieldReader(item)
            guard let start = try fields.timestamp("start"), let end = try fields.timestamp("end") else {
                throw MemoryError(invalid: "start and end are required", field: "schedule_blocks")
            }
            return Schedule.Block(
                start: start, end: end, taskID: try fields.requiredString("task_id"),
                calendarEventID: try fields.string("calendar_event_id"))
        }
    }
}

extension Schedule {
    fileprivate var json: JSON {
        [
            "id": .int(id), "plan_id": .int(planID), "schedule_blocks": blocks, "client_id": .optional(clientID),
            "status": .string(status), "created_at": .string(createdAt.description),
        ]
    }
}
