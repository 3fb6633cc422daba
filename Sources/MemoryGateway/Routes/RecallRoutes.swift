import Hummingbird
import MemoryCore

struct RecallRoutes {
    let memory: Memory

    func add(to group: RouterGroup<GatewayContext>) {
        group.get("recall") { request, _ in
            try await recall(RecallRequest(request.queryObject()))
        }
        group.post("recall") { request, _ in
            try await recall(RecallRequest(try await request.jsonObject()))
        }
    }

    private func recall(_ request: RecallRequest) async throws -> Response {
        let answer = try await memory.recall(request)
        var writer = JSONWriter(capacity: 256 + answer.encodedHits.count)
        writer.beginObject()
        writer.key("query")
        writer.string(request.query)
        writer.key("client_id")
        writer.int(request.clientID)
        writer.key("result_count")
        writer.int(answer.count)
        writer.key("cached")
        writer.bool(answer.isCached)
        writer.key("degraded")
        writer.bool(answer.isDegraded)
        writer.key("search_time_ms")
        writer.double((answer.duration.milliseconds * 1000).rounded() / 1000)
        writer.key("results")
        writer.raw(answer.encodedHits)
        writer.endObject()
        return .json(writer.bytes)
    }
}
