import Hummingbird
import MemoryCore
import NIOCore

/// Everything of one client at once.
enum ClientRoutes {
    private static let path = "/api/v1/memory/clients/{client_id}"

    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .delete, path: path, tag: "Clients", summary: "Erases a client everywhere", tenancy: .client(.path),
            writes: true,
            answers: [
                .ok("Erasure", "Everything is gone."),
                Endpoint.Answer(
                    status: .multiStatus, schema: "Erasure",
                    text: "A store could not be reached; what it has goes later, by itself."),
            ]
        ) { call in
            let client = try call.requiredClient()
            let erasure = try await call.memory.erase(client: client)
            return .json(erasure.json(client).encoded, status: erasure.failed.isEmpty ? .ok : .multiStatus)
        },
        Endpoint(
            method: .get, path: path + "/export", tag: "Clients", summary: "Every memory of a client, one a line",
            tenancy: .client(.path), writes: false,
            answers: [
                Endpoint.Answer(
                    status: .ok, schema: nil, text: "Lines of JSON, oldest first.", contentType: "application/x-ndjson")
            ], handle: export),
        Endpoint(
            method: .post, path: path + "/import", tag: "Clients", summary: "Takes the lines of an export",
            tenancy: .client(.path), writes: true, body: .lines,
            answers: [
                .ok("ImportResult", "Every line was stored."),
                Endpoint.Answer(status: .multiStatus, schema: "ImportResult", text: "Some lines were refused."),
            ], errors: [413], handle: importLines),
    ]

    @Sendable private static func export(_ call: Call) async throws -> Response {
        let client = try call.requiredClient()
        let memory = call.memory
        let body = ResponseBody { writer in
            try await memory.export(of: .client(client)) { lines in
                var buffer = ByteBuffer()
                for line in lines {
                    buffer.writeBytes(line)
                    buffer.writeInteger(UInt8(ascii: "\n"))
                }
                try await writer.write(buffer)
            }
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: [.contentType: "application/x-ndjson"], body: body)
    }

    /// How much is stored at once, and how long a line may be.
    private static let batchCount = 64
    private static let maxLineBytes = 1 << 20
    private static let maxErrors = 100

    /// Stores lines as they come: of what came before a connection broke, everything that was read is stored.
    @Sendable private static func importLines(_ call: Call) async throws -> Response {
        try call.request.requireType("application/x-ndjson")
        let client = try call.requiredClient()
        var state = ImportState()
        var batch: [NumberedLine] = []
        func flush() async throws {
            guard !batch.isEmpty else { return }
            let results = try await call.memory.importLines(batch.map(\.text), of: .only([client]))
            for (line, result) in zip(batch, results) { state.add(result, line: line.number) }
            batch = []
        }
        var number = 0
        func take(_ line: [UInt8]) async throws {
            number += 1
            guard let line = NumberedLine(number: number, text: line) else { return }
            batch.append(line)
            if batch.count == batchCount { try await flush() }
        }
        var line: [UInt8] = []
        for try await buffer in call.request.body {
            for byte in buffer.readableBytesView {
                if byte == UInt8(ascii: "\n") {
                    try await take(line)
                    line = []
                } else {
                    line.append(byte)
                    guard line.count <= maxLineBytes else { throw HTTPError(.contentTooLarge) }
                }
            }
        }
        try await take(line)
        try await flush()
        return .json(state.json.encoded, status: state.refused == 0 ? .ok : .multiStatus)
    }

    private struct ImportState {
        var stored = 0
        var refused = 0
        var errors: [JSON] = []

        mutating func add(_ result: Result<RememberReceipt, MemoryError>, line: Int) {
            guard case .failure(let error) = result else {
                stored += 1
                return
            }
            refused += 1
            guard errors.count < maxErrors else { return }
            var object: JSONObject = [
                "line": .int(Int64(line)), "error": .string(error.message), "code": .string(error.code.description),
            ]
            object["field"] = error.field.map(JSON.string)
            errors.append(.object(object))
        }

        var json: JSONObject {
            ["imported": .int(Int64(stored)), "refused": .int(Int64(refused)), "errors": .array(errors)]
        }
    }

    static let schemas: [(String, JSON)] = [
        (
            "Erasure",
            Schema.object([
                "client_id": Schema.clientID,
                "erased": Schema.object([
                    "memories": Schema.integer(), "events": Schema.integer(), "documents": Schema.integer(),
                    "plans": Schema.integer(), "cached": Schema.integer(),
                ]), "failed": Schema.stores,
            ])
        ),
        (
            "ImportResult",
            Schema.object([
                "imported": Schema.integer(), "refused": Schema.integer(),
                "errors": Schema.array(
                    Schema.object(
                        [
                            "line": Schema.integer(), "error": Schema.string(), "code": Schema.string(),
                            "field": Schema.string(),
                        ], optional: ["field"])),
            ])
        ),
    ]
}

extension Memory.Erasure {
    fileprivate func json(_ client: Int) -> JSONObject {
        [
            "client_id": .int(Int64(client)),
            "erased": [
                "memories": .int(Int64(memories)), "events": .int(Int64(events)), "documents": .int(Int64(documents)),
                "plans": .int(Int64(plans)), "cached": .int(Int64(cached)),
            ], "failed": .array(failed.map { .string($0.description) }),
        ]
    }
}
