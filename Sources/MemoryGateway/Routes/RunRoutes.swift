import Hummingbird
import MemoryCore

enum RunRoutes {
    private static let path = "/api/v1/memory/runs"
    private static let id = Endpoint.Parameter.path(
        "run_id", Schema.string(1...100), "The run's id; a `/` in it is `%2F`.", example: "run-1")
    private static let since = Endpoint.Parameter.since("Only runs that began at this moment or later.")

    private static func named(_ name: String, _ what: String) -> Endpoint.Parameter {
        .query(name, Schema.string(1...255), "Only runs of this \(what).", example: .string("coda:\(what)-7"))
    }

    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .post, path: path, tag: "Runs", summary: "Stores a run, and its place in the graph",
            tenancy: .shared, writes: true, body: .json("RunDraft"), answers: [.created("Run")],
            errors: [409, 413, 422]
        ) { call in
            let fields = call.bodyFields
            _ = try fields.required("run_type")
            var run = ExecutionRun(
                id: try fields.requiredString("run_id"),
                kind: try fields.choice("run_type", ExecutionRun.Kind.self) ?? .process)
            try run.apply(call.body)
            return .json(try await call.memory.createRun(run).json.encoded, status: .created)
        },
        Endpoint(
            method: .get, path: path, tag: "Runs", summary: "Runs, newest first", tenancy: .shared, writes: false,
            parameters: [
                named("task_id", "task"), named("project_id", "project"), named("process_template_id", "template"),
                .query(
                    "run_type", Schema.choice(ExecutionRun.Kind.self), "Only runs of this kind.", example: "Process"),
                since,
            ] + Endpoint.Parameter.page, answers: [.ok("RunPage")]
        ) { call in
            .page(
                try await call.memory.runs(try RunFilter(call.queryFields), page: try PageRequest(call.queryFields)),
                \.json)
        },
        Endpoint(
            method: .get, path: path + "/stats", tag: "Runs",
            summary: "What the runs of a template, workflow or project tell", tenancy: .shared, writes: false,
            parameters: [
                named("process_template_id", "template"), named("workflow_id", "workflow"),
                named("project_id", "project"), since,
            ], answers: [.ok("RunStatistics")]
        ) { call in
            .json(try await call.memory.runStatistics(try RunFilter(call.queryFields)).json.encoded)
        },
        Endpoint(
            method: .get, path: path + "/drift", tag: "Runs",
            summary: "Templates whose runs drift from their estimates",
            tenancy: .shared, writes: false, parameters: [since], answers: [.ok("Drift")]
        ) { call in
            let drifting = try await call.memory.driftingTemplates(since: try call.queryFields.timestamp("since"))
            return .items(
                drifting.map { template, statistics in
                    var object = statistics.json
                    object["process_template_id"] = .string(template)
                    return .object(object)
                })
        },
        Endpoint(
            method: .get, path: path + "/{run_id}", tag: "Runs", summary: "One run", tenancy: .shared, writes: false,
            parameters: [id], answers: [.ok("Run")], errors: [404]
        ) { call in .json(try await call.memory.run(try call.text("run_id")).json.encoded) },
        Endpoint(
            method: .patch, path: path + "/{run_id}", tag: "Runs", summary: "Changes a run; the graph follows",
            tenancy: .shared, writes: true, parameters: [id], body: .json("RunPatch"), answers: [.ok("Run")],
            errors: [404, 413, 422]
        ) { call in
            let body = call.body
            let run = try await call.memory.updateRun(try call.text("run_id")) { run throws(MemoryError) in
                try run.apply(body)
            }
            return .json(run.json.encoded)
        },
    ]

    /// What a run may say of itself, beside its id.
    private static let fields: [(String, JSON)] = [
        ("run_type", Schema.choice(ExecutionRun.Kind.self)), ("workflow_id", Schema.string(1...255)),
        ("process_template_id", Schema.string(1...255)), ("task_id", Schema.string(1...255)),
        ("project_id", Schema.string(1...255)), ("engagement_id", Schema.string(1...255)),
        ("executed_by_person_id", Schema.string(1...255)), ("started_at", Schema.timestamp),
        ("ended_at", Schema.timestamp), ("actual_hours", Schema.number(0...999.99)),
        ("outcome_notes", Schema.string(1...65_536)), ("metadata", Schema.anyObject),
    ]

    private static func object(
        _ members: [(String, JSON)], required: [String], isDraft: Bool = true, example: JSON? = nil
    ) -> JSON {
        var properties = JSONObject()
        for (name, schema) in members {
            properties[name] = isDraft && !required.contains(name) ? Schema.nullable(schema) : schema
        }
        var schema: JSONObject = ["type": "object", "properties": .object(properties)]
        if !required.isEmpty { schema["required"] = .array(required.map(JSON.string)) }
        schema["example"] = example
        return .object(schema)
    }

    private static let statistics: KeyValuePairs<String, JSON> = [
        "run_count": Schema.integer(), "average_hours": Schema.nullable(Schema.number()),
        "median_hours": Schema.nullable(Schema.number()), "p90_hours": Schema.nullable(Schema.number()),
        "estimated_hours": Schema.nullable(Schema.number()), "variance": Schema.nullable(Schema.number()),
        "drifting": Schema.boolean, "blocked_runs": Schema.integer(), "process_template_id": Schema.string(),
    ]

    static let schemas: [(String, JSON)] = [
        (
            "RunDraft",
            object(
                [("run_id", Schema.string(1...100))] + fields, required: ["run_id", "run_type"],
                example: [
                    "run_id": "run-1", "run_type": "Process", "process_template_id": "coda:template-3",
                    "project_id": "coda:project-7", "actual_hours": 2.5, "metadata": ["estimated_hours": 2],
                ])
        ),
        ("RunPatch", object(fields, required: [], example: ["actual_hours": 3, "outcome_notes": "delayed by a day"])),
        (
            "Run",
            object(
                [("run_id", Schema.string())] + fields.dropLast().map { ($0, Schema.nullable($1)) } + [
                    ("metadata", Schema.anyObject), ("created_at", Schema.timestamp),
                ], required: ["run_id", "created_at", "metadata"] + fields.dropLast().map(\.0), isDraft: false)
        ), ("RunPage", Schema.page("Run")),
        ("RunStatistics", Schema.object(statistics, optional: ["process_template_id"])),
        ("Drift", Schema.object(["items": Schema.array(Schema.object(statistics))])),
    ]
}

extension RunFilter {
    fileprivate init(_ fields: FieldReader) throws(MemoryError) {
        self.init()
        taskID = try fields.string("task_id")
        projectID = try fields.string("project_id")
        processTemplateID = try fields.string("process_template_id")
        workflowID = try fields.string("workflow_id")
        kind = try fields.choice("run_type", ExecutionRun.Kind.self)
        since = try fields.timestamp("since")
    }
}

extension ExecutionRun {
    fileprivate var json: JSON {
        [
            "run_id": .string(id), "run_type": .string(kind.rawValue), "workflow_id": .optional(workflowID),
            "process_template_id": .optional(processTemplateID), "task_id": .optional(taskID),
            "project_id": .optional(projectID), "engagement_id": .optional(engagementID),
            "executed_by_person_id": .optional(executedByPersonID), "started_at": .optional(startedAt),
            "ended_at": .optional(endedAt), "actual_hours": .optional(actualHours),
            "outcome_notes": .optional(outcomeNotes), "metadata": .object(metadata),
            "created_at": .optional(createdAt),
        ]
    }
}

extension RunStatistics {
    fileprivate var json: JSONObject {
        [
            "run_count": .int(Int64(count)), "average_hours": .optional(averageHours),
            "median_hours": .optional(medianHours), "p90_hours": .optional(p90Hours),
            "estimated_hours": .optional(estimatedHours), "variance": .optional(variance),
            "drifting": .bool(isDrifting), "blocked_runs": .int(Int64(blocked)),
        ]
    }
}
