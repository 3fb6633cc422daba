import Hummingbird
import MemoryCore

enum SimilarRoutes {
    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .get, path: "/api/v1/memory/similar/events", tag: "Similar",
            summary: "The nearest to an event's own vector, of the same client", tenancy: .optionalClient(.query),
            writes: false,
            parameters: [
                .query("event_id", Schema.rowID, "The event.", example: 42, isRequired: true), .limit(5),
            ], answers: [.ok("SimilarEvents")], errors: [404]
        ) { call in
            let id = Int64(try call.queryFields.requiredInt("event_id"))
            let hits = try await call.memory.similarEvents(
                to: id, of: call.tenant.owners, limit: try call.queryFields.int("k") ?? 5)
            var writer = JSONWriter()
            writer.beginObject()
            writer.key("event_id")
            writer.int(id)
            writer.key("result_count")
            writer.int(hits.count)
            writer.key("results")
            writer.beginArray()
            for hit in hits { hit.write(to: &writer) }
            writer.endArray()
            writer.endObject()
            return .json(writer.bytes)
        },
        Endpoint(
            method: .get, path: "/api/v1/memory/similar/projects", tag: "Similar",
            summary: "Projects that used the same blueprint", tenancy: .shared, writes: false,
            parameters: [
                .query(
                    "blueprint_id", Schema.string(1...255), "The blueprint.", example: "coda:blueprint-7",
                    isRequired: true),
                .limit(5),
            ], answers: [.ok("SimilarProjects")], errors: [404]
        ) { call in
            let projects = try await call.memory.similarProjects(
                blueprint: try call.queryFields.requiredString("blueprint_id"),
                limit: try call.queryFields.int("k") ?? 5)
            return .json(Self.body(projects).encoded)
        },
    ]

    private static func body(_ projects: [SimilarProject]) -> JSON {
        let timed = projects.filter { $0.averageHours != nil }
        let runs = timed.reduce(0) { $0 + $1.runs }
        let hours = timed.reduce(0) { $0 + $1.totalHours }
        let items = projects.map { project -> JSON in
            [
                "project_id": .string(project.id), "run_count": .int(Int64(project.runs)),
                "average_hours": .optional(project.averageHours), "total_hours": .double(project.totalHours),
                "last_run_at": .optional(project.lastRunAt),
            ]
        }
        return ["projects": .array(items), "average_hours": .optional(runs > 0 ? hours / Double(runs) : nil)]
    }

    static let schemas: [(String, JSON)] = [
        (
            "SimilarEvents",
            Schema.object([
                "event_id": Schema.rowID, "result_count": Schema.integer(0...100),
                "results": Schema.array(Schema.ref("RecallHit")),
            ])
        ),
        (
            "SimilarProjects",
            Schema.object([
                "projects": Schema.array(
                    Schema.object([
                        "project_id": Schema.string(), "run_count": Schema.integer(),
                        "average_hours": Schema.nullable(Schema.number()), "total_hours": Schema.number(),
                        "last_run_at": Schema.nullable(Schema.timestamp),
                    ])), "average_hours": Schema.nullable(Schema.number()),
            ])
        ),
    ]
}
