import Hummingbird
import MemoryCore

enum TemplateRoutes {
    private static let path = "/api/v1/memory/templates"
    private static let name = Endpoint.Parameter.path(
        "name", Schema.string(1...100), "The template's name; a `/` in it is `%2F`.", example: "daily_reflection")

    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .get, path: path, tag: "Templates", summary: "The latest version of every template",
            tenancy: .shared, writes: false, parameters: Endpoint.Parameter.page, answers: [.ok("TemplatePage")]
        ) { call in .page(try await call.memory.templates(page: try PageRequest(call.queryFields)), \.json) },
        Endpoint(
            method: .get, path: path + "/{name}", tag: "Templates", summary: "A version of a template, else the latest",
            tenancy: .shared, writes: false,
            parameters: [
                name,
                .query("version", Schema.string(1...20), "Which version; the latest unless given.", example: "v2"),
            ], answers: [.ok("Template")], errors: [404]
        ) { call in
            let template = try await call.memory.template(
                try call.text("name"), version: try call.queryFields.string("version"))
            return .json(template.json.encoded)
        },
        Endpoint(
            method: .put, path: path + "/{name}", tag: "Templates", summary: "Adds the next version; the old ones stay",
            tenancy: .shared, writes: true, parameters: [name], body: .json("TemplateDraft"),
            answers: [.ok("Template")], errors: [413]
        ) { call in
            let fields = call.bodyFields
            var draft = TemplateDraft(
                name: try call.text("name"), type: try fields.string("template_type"),
                content: try fields.requiredString("content"))
            draft.metadata = try fields.object("metadata") ?? JSONObject()
            return .json(try await call.memory.addTemplate(draft).json.encoded)
        },
    ]

    static let schemas: [(String, JSON)] = [
        (
            "TemplateDraft",
            Schema.draft(
                [
                    "template_type": Schema.string(1...50), "content": Schema.string(1...262_144),
                    "metadata": Schema.anyObject,
                ], optional: ["template_type", "metadata"], example: ["content": "You write the reflection of one day."]
            )
        ),
        (
            "Template",
            Schema.object([
                "template_name": Schema.string(), "template_type": Schema.string(), "content": Schema.string(),
                "version": Schema.string(), "metadata": Schema.anyObject, "created_at": Schema.timestamp,
            ])
        ), ("TemplatePage", Schema.page("Template")),
    ]
}

extension Template {
    fileprivate var json: JSON {
        [
            "template_name": .string(name), "template_type": .string(type), "content": .string(content),
            "version": .string(version), "metadata": .object(metadata), "created_at": .string(createdAt.description),
        ]
    }
}
