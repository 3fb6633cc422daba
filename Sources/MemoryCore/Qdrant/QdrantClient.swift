/// Qdrant's REST interface: requests that fit its OpenAPI description, answers that are checked.
struct QdrantClient: Sendable {
    private let base: String
    private let headers: [String]
    private let http: CurlClient
    private let breaker: CircuitBreaker

    init(_ configuration: QdrantConfiguration, outage: Outage = .silent) throws(MemoryError) {
        breaker = CircuitBreaker(.qdrant, outage: outage)
        var url = configuration.url
        while url.hasSuffix("/") { url.removeLast() }
        base = url
        var headers = ["Content-Type: application/json"]
        if let key = configuration.apiKey { headers.append("api-key: \(key.revealed)") }
        self.headers = headers
        http = try CurlClient(store: .qdrant, connections: configuration.connections)
    }

    func close() async { await http.close() }

    /// Sends a request and answers its `result`.
    func send(
        _ method: CurlRequest.Method, _ path: String, body: [UInt8] = [], deadline: Deadline
    ) async throws(MemoryError) -> JSON {
        let reply = try await reply(method, path, body: body, deadline: deadline)
        guard let answer = try? JSON.parse(reply), let result = answer["result"] else {
            throw .badReply(.qdrant, String(decoding: reply.prefix(200), as: UTF8.self))
        }
        return result
    }

    /// Sends a request and answers the bytes of its answer.
    func reply(
        _ method: CurlRequest.Method, _ path: String, body: [UInt8] = [], deadline: Deadline
    ) async throws(MemoryError) -> [UInt8] {
        try await breaker.run { () throws(MemoryError) in
            let reply = try await http.send(
                CurlRequest(method: method, url: base + path, headers: headers, body: body, deadline: deadline))
            guard reply.status == 200 else { throw Self.refusal(reply) }
            return reply.body
        }
    }

    /// Sends an update. Only `completed` counts: an update that was merely acknowledged may never be applied.
    func update(
        _ method: CurlRequest.Method, _ path: String, body: [UInt8], deadline: Deadline
    ) async throws(MemoryError) {
        let result = try await send(method, path + "?wait=true", body: body, deadline: deadline)
        guard let status = result["status"]?.string, status == "completed" else {
            throw .unavailable(.qdrant, "an update that is not completed", driverCode: result["status"]?.string)
        }
    }

    /// The numbers of the server's version, such as 1, 19, 0.
    func version(deadline: Deadline) async throws(MemoryError) -> [Int] {
        let reply = try await reply(.get, "/", deadline: deadline)
        let text = (try? JSON.parse(reply))?["version"]?.string ?? ""
        // What follows the numbers, as in `1.19.0-dev`, says nothing here.
        return text.prefix { $0 == "." || $0.isASCII && $0.isNumber }.split(separator: ".").map { Int($0) ?? 0 }
    }

    /// A collection's description, or nil when there is none of that name.
    func collection(_ name: String, deadline: Deadline) async throws(MemoryError) -> JSON? {
        do {
            return try await send(.get, "/collections/\(name)", deadline: deadline)
        } catch {
            guard error.driverCode == Self.missing else { throw error }
            return nil
        }
    }

    /// The driver code of an answer that a collection is not there.
    static let missing = "http 404"

    private static func refusal(_ reply: CurlReply) -> MemoryError {
        var error = MemoryError.unavailable(.qdrant, ReplySummary.of(reply.body), driverCode: "http \(reply.status)")
        // A request that does not fit stays so; everything else ends when somebody mends the server or the settings.
        // A collection that is not there is an answer, and created.
        if reply.status == 404 { error.code = .notFound }
        error.isRetriable = reply.status != 400 && reply.status != 413 && reply.status != 422
        error.retryAfter = reply.retryAfter
        return error
    }
}
