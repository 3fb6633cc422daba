import Hummingbird
import MemoryCore

struct RecordRoutes {
    let memory: Memory

    func add(to group: RouterGroup<GatewayContext>) {
        group.get(":memory_id") { request, context in
            let (id, client) = try key(request, context)
            return Response.json(try await memory.memory(id, client: client).encoded)
        }
        group.delete(":memory_id") { request, context in
            let (id, client) = try key(request, context)
            try await memory.delete(id, client: client)
            return Response(status: .noContent)
        }
    }

    private func key(_ request: Request, _ context: GatewayContext) throws -> (id: Int64, client: Int) {
        let client = try request.queryObject().requiredClientID()
        guard let id = context.parameters.get("memory_id").flatMap({ Int64($0) }) else {
            throw MemoryError(invalid: "memory_id must be an integer", field: "memory_id")
        }
        return (id, client)
    }
}
