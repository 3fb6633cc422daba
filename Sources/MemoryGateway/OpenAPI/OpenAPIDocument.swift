import HTTPTypes
import MemoryCore

/// The OpenAPI 3.1 description, made of the endpoints themselves.
enum OpenAPIDocument {
    /// What every error body says.
    private static let errorSchema = Schema.object(
        [
            "error": Schema.string(), "code": Schema.string(), "field": Schema.string(),
            "outcome": Schema.choice(MemoryError.Outcome.self), "request_id": Schema.string(),
        ], optional: ["field", "outcome", "request_id"],
        example: [
            "error": "client_id is required", "code": "invalid_request", "field": "client_id", "request_id": "a1",
        ])

    private static let errorTexts: [(status: Int, text: String)] = [
        (400, "The request is malformed, or something is out of range; `field` names it."),
        (401, "An API key is required, or not known."), (403, "The API key does not allow this."),
        (404, "There is no such thing."), (408, "The body came too slowly."),
        (409, "It is taken, or an Idempotency-Key stands for another body."),
        (413, "Too large."), (415, "The body is of another type, or compressed."),
        (422, "Well-formed, but impossible."), (429, "Too many requests; `Retry-After` says how long to wait."),
        (
            503,
            "A store is away (`unavailable`), or more is asked for than can be done in time (`overloaded`); `Retry-After` "
                + "says when to try again, `outcome` what became of a write. `ids_exhausted`: there is no id left, and "
                + "trying again does not help."
        ),
        (504, "The deadline passed; `outcome` says what became of a write."),
    ]

    static func make(_ endpoints: [Endpoint], schemas: [(String, JSON)]) -> JSONObject {
        var paths = JSONObject()
        for endpoint in endpoints {
            var item = paths[endpoint.path]?.object ?? JSONObject()
            item[endpoint.method.rawValue.lowercased()] = operation(endpoint)
            paths[endpoint.path] = .object(item)
        }
        var components: JSONObject = ["Error": errorSchema]
        for (name, schema) in schemas { components[name] = schema }
        return [
            "openapi": "3.1.0",
            "info": [
                "title": "Memory Gateway", "version": .string(GatewayVersion.current),
                "description": "One memory API for agents, over Postgres, Qdrant and Valkey, or embedded stores.",
            ], "paths": .object(paths),
            "components": [
                "schemas": .object(components),
                "securitySchemes": [
                    "bearer": ["type": "http", "scheme": "bearer"],
                    "apiKey": ["type": "apiKey", "in": "header", "name": "X-API-Key"],
                ],
            ],
        ]
    }

    private static func operation(_ endpoint: Endpoint) -> JSON {
        var operation: JSONObject = [
            "operationId": .string(operationID(endpoint)), "tags": [.string(endpoint.tag)],
            "summary": .string(endpoint.summary),
        ]
        var parameters = endpoint.allParameters.map(parameter)
        if endpoint.takesIdempotencyKey {
            parameters.append([
                "name": "Idempotency-Key", "in": "header", "required": false,
                "description": "The same key and body within 24 hours give the first answer again.",
                "schema": ["type": "string", "minLength": 1, "maxLength": 255],
                "example": "order-17",
            ])
        }
        if !parameters.isEmpty { operation["parameters"] = .array(parameters) }
        operation["requestBody"] = requestBody(endpoint.body)
        operation["responses"] = responses(endpoint)
        operation["security"] = endpoint.tenancy == .open ? [] : [["bearer": []], ["apiKey": []], [:]]
        return .object(operation)
    }

    /// `get_memory_plans_id` for `GET /api/v1/memory/plans/{id}`.
    private static func operationID(_ endpoint: Endpoint) -> String {
        let words = endpoint.path.replacing("/api/v1", with: "").split { !$0.isLetter && !$0.isNumber }
        return ([endpoint.method.rawValue.lowercased()] + words.map(String.init)).joined(separator: "_")
    }

    private static func parameter(_ parameter: Endpoint.Parameter) -> JSON {
        [
            "name": .string(parameter.name), "in": parameter.isInPath ? "path" : "query",
            "required": .bool(parameter.isRequired), "description": .string(parameter.text),
            "schema": parameter.schema, "example": parameter.example,
        ]
    }

    private static func requestBody(_ body: Endpoint.Body) -> JSON? {
        switch body {
        case .none: nil
        case .json(let schema, _):
            ["required": true, "content": ["application/json": ["schema": Schema.ref(schema)]]]
        case .lines:
            [
                "required": true,
                "content": ["application/x-ndjson": ["schema": ["type": "string", "example": "{}\n"]]],
            ]
        }
    }

    private static func responses(_ endpoint: Endpoint) -> JSON {
        var responses = JSONObject()
        for answer in endpoint.answers {
            var response: JSONObject = ["description": .string(answer.text)]
            if answer.status != .noContent {
                let schema = answer.schema.map(Schema.ref) ?? ["type": "string"]
                response["content"] = .object([answer.contentType: ["schema": schema]])
            }
            responses[String(answer.status.code)] = .object(response)
        }
        for (status, text) in errorTexts where errors(endpoint).contains(status) {
            // A store that is down is an answer of its own to the question of health.
            let isHealth = status == 503 && endpoint.tenancy == .open && endpoint.errors.contains(503)
            let schema = isHealth ? endpoint.answers.first?.schema ?? "Error" : "Error"
            responses[String(status)] = [
                "description": .string(text), "content": ["application/json": ["schema": Schema.ref(schema)]],
            ]
        }
        return .object(responses)
    }

    /// The statuses of errors that an endpoint can answer.
    static func errors(_ endpoint: Endpoint) -> Set<Int> {
        var errors = endpoint.errors.union([400, 429])
        if endpoint.tenancy != .open { errors.formUnion([401, 403, 503, 504]) }
        if endpoint.path == "/docs" || endpoint.path == "/openapi.json" { errors.insert(403) }
        if case .none = endpoint.body {} else { errors.formUnion([408, 413, 415]) }
        return errors
    }
}
