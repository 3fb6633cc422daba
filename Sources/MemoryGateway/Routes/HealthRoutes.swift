import Hummingbird
import MemoryCore

struct HealthRoutes {
    let memory: Memory

    func add(to router: Router<GatewayContext>) {
        router.get("/health") { _, _ in
            let health = await memory.health()
            return Response.json(body(health), status: health.isHealthy ? .ok : .serviceUnavailable)
        }
        router.get("/health/live") { _, _ in Response.json(status("alive")) }
        router.get("/health/ready") { _, _ in
            await memory.isReady()
                ? Response.json(status("ready")) : Response.json(status("not_ready"), status: .serviceUnavailable)
        }
    }

    private func status(_ text: String) -> [UInt8] { JSON.object(["status": .string(text)]).encoded }

    private func body(_ health: Memory.Health) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("status")
        writer.string(health.isHealthy ? "healthy" : "degraded")
        writer.key("dependencies")
        writer.beginObject()
        for (store, isUp) in health.dependencies {
            writer.key(store.description)
            writer.string(isUp ? "up" : "down")
        }
        writer.endObject()
        writer.key("embeddings")
        writer.string(memory.embeddingModel)
        writer.key("uptime_seconds")
        writer.int(health.uptime.components.seconds)
        writer.key("version")
        writer.string(GatewayVersion.current)
        writer.endObject()
        return writer.bytes
    }
}
