import HTTPTypes
import MemoryTestSupport

@testable import MemoryCore
@testable import MemoryGateway

/// A request that an endpoint accepts, made of its own examples.
struct EndpointRequest {
    let endpoint: Endpoint
    /// The client that is named where the endpoint reads one; nil names none.
    var client: Int?
    /// A client that is named in every other place.
    var elsewhere: Int?
    /// Values of parameters, before their examples.
    var values: [String: String] = [:]

    private var place: Endpoint.Tenancy.Place? {
        switch endpoint.tenancy {
        case .client(let place), .optionalClient(let place): place
        default: nil
        }
    }

    var path: String {
        var path = endpoint.path
        var query: [String] = []
        for parameter in endpoint.allParameters {
            var value = values[parameter.name] ?? Self.text(parameter.example)
            if parameter.name == "client_id" {
                guard let client else { continue }
                value = String(client)
            } else if !parameter.isRequired {
                continue
            }
            value = value.replacing(" ", with: "+").replacing("?", with: "%3F")
            if parameter.isInPath {
                path = path.replacing("{\(parameter.name)}", with: value)
            } else {
                query.append("\(parameter.name)=\(value)")
            }
        }
        if let elsewhere, place != .query { query.append("client_id=\(elsewhere)") }
        return query.isEmpty ? path : path + "?" + query.joined(separator: "&")
    }

    private static func text(_ example: JSON) -> String {
        example.string ?? String(decoding: example.encoded, as: UTF8.self)
    }

    var body: [UInt8]? {
        if case .lines = endpoint.body {
            var line: JSONObject = ["content": "imported"]
            if let elsewhere { line["client_id"] = .int(Int64(elsewhere)) }
            return JSON.object(line).encoded
        }
        guard case .json(let schema, _) = endpoint.body else { return nil }
        let schemas = JSON.object(Endpoint.document)["components"]?["schemas"]
        var body = schemas?[schema]?["example"]?.object ?? JSONObject()
        if schema == "MemoryBatch" {
            body["memories"] = [.object(schemas?["MemoryDraft"]?["example"]?.object ?? JSONObject())]
        }
        if let value = values["doc_id"], body["doc_id"] != nil { body["doc_id"] = .string(value) }
        name(in: &body)
        return JSON.object(body).encoded
    }

    private func name(in body: inout JSONObject) {
        if body["client_id"] != nil || place == .body {
            body["client_id"] = client.map { .int(Int64($0)) }
        }
        if case .array(let items)? = body["memories"] {
            body["memories"] = .array(
                items.map { item in
                    var object = item.object ?? JSONObject()
                    object["client_id"] = client.map { .int(Int64($0)) }
                    return .object(object)
                })
        }
        if let elsewhere, place != .body { body["client_id"] = .int(Int64(elsewhere)) }
    }

    var headers: HTTPFields {
        if case .lines = endpoint.body { return [.contentType: "application/x-ndjson"] }
        return [:]
    }

    /// Every endpoint that answers at once; the stream has tests of its own.
    static let answering = Endpoint.all.filter { !$0.path.hasSuffix("/stream") }
}

extension TestGateway {
    func send(_ request: EndpointRequest, _ headers: HTTPFields = [:]) async throws -> Reply {
        var fields = request.headers
        for field in headers { fields[field.name] = field.value }
        return try await send(request.endpoint.method, request.path, body: request.body, headers: fields)
    }
}
