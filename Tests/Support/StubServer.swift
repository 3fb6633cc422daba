import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import Synchronization

/// An HTTP server whose answers a test decides: for a provider that errs in ways that no real one does on demand.
package final class StubServer: Sendable {
    /// What was asked.
    package struct Asked: Sendable {
        package let method: String
        package let path: String
        package let body: String
        package let headers: [String: String]
    }

    /// What is answered.
    package struct Answer: Sendable {
        package var status: Int
        package var body: String
        package var headers: [String: String]

        package init(_ status: Int, _ body: String, headers: [String: String] = [:]) {
            self.status = status
            self.body = body
            self.headers = headers
        }
    }

    private let log = Mutex<[Asked]>([])
    private let answer: @Sendable (Asked) -> Answer

    /// Everything that was asked so far.
    package var asked: [Asked] { log.withLock { $0 } }

    private init(_ answer: @escaping @Sendable (Asked) -> Answer) { self.answer = answer }

    /// Serves while the test runs; `test` gets the base URL.
    package static func with<Result: Sendable>(
        answering answer: @escaping @Sendable (Asked) -> Answer,
        _ test: @escaping @Sendable (String, StubServer) async throws -> Result
    ) async throws -> Result {
        let stub = StubServer(answer)
        let (ports, port) = AsyncStream<Int>.makeStream()
        let application = Application(
            responder: CallbackResponder { (request: Request, _: BasicRequestContext) in await stub.respond(request) },
            configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: 0)),
            onServerRunning: { channel in port.yield(channel.localAddress?.port ?? 0) },
            logger: Logger(label: "stub") { _ in SwiftLogNoOpLogHandler() })
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await application.run() }
            var found = 0
            for await port in ports {
                found = port
                break
            }
            let result = try await test("http://127.0.0.1:\(found)", stub)
            group.cancelAll()
            return result
        }
    }

    private func respond(_ request: Request) async -> Response {
        let body = try? await request.body.collect(upTo: 64 << 20)
        let headers = Dictionary(
            request.headers.map { ($0.name.canonicalName, $0.value) }, uniquingKeysWith: { first, _ in first })
        let asked = Asked(
            method: request.method.rawValue, path: request.uri.path, body: body.map { String(buffer: $0) } ?? "",
            headers: headers)
        log.withLock { $0.append(asked) }
        let answer = answer(asked)
        var fields: HTTPFields = [.contentType: "application/json"]
        for (name, value) in answer.headers {
            if let name = HTTPField.Name(name) { fields[name] = value }
        }
        return Response(
            status: .init(code: answer.status), headers: fields,
            body: ResponseBody(byteBuffer: ByteBuffer(string: answer.body)))
    }
}
