import Hummingbird
import MemoryCore

/// Whether the gateway and its stores serve. Open to everyone, so that a proxy can ask.
enum HealthRoutes {
    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .get, path: "/health", tag: "Operations", summary: "Whether every store answers", tenancy: .open,
            writes: false, answers: [.ok("Health", "Every store is up.")], errors: [503], isAlwaysServed: true
        ) { call in
            let health = await call.memory.health()
            let isOpen = (try? await call.memory.isOpen()) == true
            return .json(
                Self.body(health, call.memory, isOpen: isOpen).encoded,
                status: health.isHealthy ? .ok : .serviceUnavailable)
        },
        Endpoint(
            method: .get, path: "/health/live", tag: "Operations", summary: "Whether the process runs", tenancy: .open,
            writes: false, answers: [.ok("Status")], isAlwaysServed: true
        ) { _ in .json(Self.status("alive").encoded) },
        Endpoint(
            method: .get, path: "/health/ready", tag: "Operations",
            summary: "Whether the primary store serves and takes writes", tenancy: .open, writes: false,
            answers: [.ok("Status")], errors: [503], isAlwaysServed: true
        ) { call in
            await call.memory.isReady()
                ? .json(Self.status("ready").encoded)
                : .json(Self.status("not_ready").encoded, status: .serviceUnavailable)
        },
    ]

    private static func status(_ text: String) -> JSONObject { ["status": .string(text)] }

    private static func body(_ health: Memory.Health, _ memory: Memory, isOpen: Bool) -> JSONObject {
        var dependencies = JSONObject()
        for (store, state) in health.dependencies { dependencies[store.description] = .string(state.rawValue) }
        var body: JSONObject = [
            "status": health.isHealthy ? "healthy" : "degraded", "dependencies": .object(dependencies),
            "embeddings": .string(memory.embeddingModel), "uptime_seconds": .int(health.uptime.components.seconds),
            "version": .string(GatewayVersion.current), "access": isOpen ? "open" : "keys",
        ]
        var warnings = memory.warnings
        if isOpen { warnings.append("access: there are no API keys, whoever reaches the gateway reads and writes all") }
        if !warnings.isEmpty { body["warnings"] = .array(warnings.map(JSON.string)) }
        return body
    }

    static let schemas: [(String, JSON)] = [
        (
            "Health",
            Schema.object(
                [
                    "status": Schema.choice(["healthy", "degraded"]),
                    "dependencies": [
                        "type": "object", "additionalProperties": Schema.choice(Memory.Health.State.self),
                        "description":
                            "Each store by its name, and whether it is up; `read-only` when it takes no writes.",
                    ],
                    "embeddings": Schema.string(), "uptime_seconds": Schema.integer(), "version": Schema.string(),
                    "access": Schema.choice(["open", "keys"]), "warnings": Schema.array(Schema.string()),
                ], optional: ["warnings"])
        ), ("Status", Schema.object(["status": Schema.choice(["alive", "ready", "not_ready"])])),
    ]
}
