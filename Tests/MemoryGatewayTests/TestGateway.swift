import CoreMetrics
import HTTPTypes
import Hummingbird
import Logging
import MemoryTestSupport
import NIOCore
import NIOEmbedded
import Testing

@testable import MemoryCore
@testable import MemoryGateway

/// The gateway's router over a memory of a test's own, asked without a socket between.
struct TestGateway: Sendable {
    let memory: Memory
    let world: TestWorld
    private let responder: any HTTPResponder<GatewayContext>

    /// Opens a world, a memory and a gateway over it for one test.
    static func with(
        _ stores: StoreSet = .servers, own: Set<TestServers.Name> = [],
        configuration: GatewayConfiguration = GatewayConfiguration(),
        configure: @Sendable (inout MemoryConfiguration) -> Void = { _ in },
        _ test: (TestGateway) async throws -> Void
    ) async throws {
        _ = recordsMetrics
        try await TestWorld.with(stores, own: own, configure: configure) { world async throws in
            try await world.withMemory { memory async throws in
                try await test(TestGateway(memory: memory, world: world, configuration: configuration))
            }
        }
    }

    /// swift-metrics takes one factory in the life of a process.
    private static let recordsMetrics: Void = MetricsSystem.bootstrap(MetricsRegistry.shared)

    init(memory: Memory, world: TestWorld, configuration: GatewayConfiguration = GatewayConfiguration()) {
        self.memory = memory
        self.world = world
        // On a busy machine everything waits; where waiting is what is tested, the test has limits of its own.
        var configuration = configuration
        if configuration.admission == AdmissionLimits() {
            (configuration.admission.target, configuration.admission.longest) = (.seconds(30), .seconds(60))
        }
        responder = buildRouter(memory: memory, configuration: configuration).buildResponder()
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
        _ method: HTTPRequest.Method, _ path: String, body: [UInt8]? = nil, headers: HTTPFields = [:],
        readsBody: Bool = true, host: String? = "localhost"
    ) async throws -> Reply {
        var fields = headers
        if let body {
            if fields[.contentType] == nil { fields[.contentType] = "application/json" }
            fields[.contentLength] = String(body.count)
        }
        let request = Request(
            head: HTTPRequest(method: method, scheme: "http", authority: host, path: path, headerFields: fields),
            body: RequestBody(buffer: ByteBuffer(bytes: body ?? [])))
        let source = ApplicationRequestContextSource(
            channel: NIOAsyncTestingChannel(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let response = try await responder.respond(to: request, context: GatewayContext(source: source))
        let writer = CollectingWriter()
        if readsBody { try await response.body.write(writer) }
        let reply = Reply(
            status: response.status.code, headers: response.headers, text: String(buffer: writer.collected.value))
        // Whatever a test is about, what it gets must be what the description promises.
        let complaints = Conformance.complaints(reply, to: method, path)
        #expect(complaints.isEmpty, "\(method) \(path) answers \(reply.status): \(complaints.joined(separator: "; "))")
        return reply
    }

    func delete(_ path: String) async throws -> Reply { try await send(.delete, path) }

    func put(_ path: String, _ body: JSON) async throws -> Reply { try await send(.put, path, body: body.encoded) }

    func patch(_ path: String, _ body: JSON) async throws -> Reply { try await send(.patch, path, body: body.encoded) }

    func post(_ path: String, _ body: JSON, headers: HTTPFields = [:]) async throws -> Reply {
        try await send(.post, path, body: body.encoded, headers: headers)
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
