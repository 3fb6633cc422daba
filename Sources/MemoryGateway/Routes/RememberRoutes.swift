import HTTPTypes
import Hummingbird
import MemoryCore

struct RememberRoutes {
    let memory: Memory

    func add(to group: RouterGroup<GatewayContext>) {
        group.post("remember", use: remember)
        group.post("remember/batch", use: rememberBatch)
    }

    @Sendable private func remember(_ request: Request, _ context: GatewayContext) async throws -> Response {
        let draft = try MemoryDraft(try await request.jsonObject())
        let receipt = try await memory.remember(draft, idempotencyKey: request.headers[.idempotencyKey])
        var writer = JSONWriter()
        receipt.write(to: &writer)
        return .json(writer.bytes, status: receipt.failed.isEmpty ? .ok : .multiStatus)
    }

    @Sendable private func rememberBatch(_ request: Request, _ context: GatewayContext) async throws -> Response {
        let drafts = try MemoryDraft.batch(try await request.jsonObject(maxBytes: 16 << 20))
        let results = try await memory.remember(drafts, idempotencyKey: request.headers[.idempotencyKey])
        var writer = JSONWriter(capacity: results.count * 192)
        writer.beginObject()
        writer.key("results")
        writer.beginArray()
        var isComplete = true
        for result in results {
            switch result {
            case .success(let receipt):
                receipt.write(to: &writer)
                isComplete = isComplete && receipt.failed.isEmpty
            case .failure(let error):
                ErrorMiddleware.Problem(error).write(to: &writer, requestID: nil)
                isComplete = false
            }
        }
        writer.endArray()
        writer.endObject()
        return .json(writer.bytes, status: isComplete ? .ok : .multiStatus)
    }
}
