import HTTPTypes
import Hummingbird
import Logging
import MemoryTestSupport
import NIOCore
import NIOEmbedded

@testable import MemoryCore
@testable import MemoryGateway

/// The gateway's router over a memory of a test's own, asked without a socket between.
struct TestGateway: Sendable {
    let memory: Memory
    let world: TestWorld
    private let responder: any HTTPResponder<GatewayContext>

    /// Opens a world, a memory and a gateway over it for one test.
    static func with(
        own: Set<TestServers.Name> = [], _ test: (TestGateway) async throws -> Void
    ) async throws {
        try await TestWorld.with(own: own) { world async throws in
            try await world.withMemory { memory async throws in
                try await test(TestGateway(memory: memory, world: world))
            }
        }
    }

    init(memory: Memory, world: TestWorld) {
        self.memory = memory
        self.world = world
        responder = buildRouter(memory: memory).buildResponder()
    }

    /// What came back.
    struct Reply {
        let status: Int
        let headers: HTTPFields
        let text: String

        /// The body as JSON; null when it is none.
        var json: JSON { (try? JSON.parse(Array(text.utf8))) ?? .null }
    }

    func send(
        _ method: HTTPRequest.Method, _ path: String, body: [UInt8]? = nil, headers: HTTPFields = [:]
    ) async throws -> Reply {
        var fields = headers
        if let body {
            if fields[.contentType] == nil { fields[.contentType] = "application/json" }
            fields[.contentLength] = String(body.count)
        }
        let request = Request(
            head: HTTPRequest(method: method, scheme: "http", authority: "test", path: path, headerFields: fields),
            body: RequestBody(buffer: ByteBuffer(bytes: body ?? [])))
        let source = ApplicationRequestContextSource(
            channel: EmbeddedChannel(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let response = try await responder.respond(to: request, context: GatewayContext(source: source))
        let writer = CollectingWriter()
        try await response.body.write(writer)
        return Reply(
            status: response.status.code, headers: response.headers, text: String(buffer: writer.collected.value))
    }

    func get(_ path: String) async throws -> Reply { try await send(.get, path) }

    func post(_ path: String, _ body: String, headers: HTTPFields = [:]) async throws -> Reply {
        try await send(.post, path, body: Array(body.utf8), headers: headers)
    }

    /// Remembers a text and answers its id.
    func remember(_ content: String, client: Int? = nil) async throws -> Int64 {
        let body: JSON = ["client_id": .int(Int64(client ?? world.client)), "content": .string(content)]
        let reply = try await post("/api/v1/memory/remember", String(decoding: body.encoded, as: UTF8.self))
        return reply.json["memory_id"]?.int ?? 0
    }
}

private struct CollectingWriter: ResponseBodyWriter {
    let collected = Shared(ByteBuffer())

    func write(_ buffer: ByteBuffer) async throws {
        collected.withLock { collected in
            var buffer = buffer
            collected.writeBuffer(&buffer)
        }
    }

    func finish(_ trailingHeaders: HTTPFields?) async throws {}
}
