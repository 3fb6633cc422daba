import Foundation
import HTTPTypes
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

@Suite("OpenAPI and metrics")
struct OpenAPITests {
    private let document = JSON.object(Endpoint.document)

    @Test("The document describes every endpoint, each with an id of its own", .timeLimit(.minutes(5)))
    func complete() {
        var ids: Set<String> = []
        for endpoint in Endpoint.all {
            let operation = document["paths"]?[endpoint.path]?[endpoint.method.rawValue.lowercased()]
            #expect(operation != nil, "\(endpoint.method) \(endpoint.path)")
            let (isNew, _) = ids.insert(operation?["operationId"]?.string ?? "")
            #expect(isNew)
            #expect(operation?["summary"]?.string?.isEmpty == false)
            for parameter in operation?["parameters"]?.array ?? [] {
                #expect(parameter["example"] != nil && parameter["schema"] != nil)
            }
        }
        #expect(document["openapi"] == "3.1.0")
    }

    @Test("Every reference leads somewhere, and every example fits its schema", .timeLimit(.minutes(5)))
    func references() {
        func references(_ json: JSON) -> [String] {
            switch json {
            case .array(let elements): elements.flatMap(references)
            case .object(let object):
                object.members.flatMap { $0.key == "$ref" ? [$0.value.string ?? ""] : references($0.value) }
            default: []
            }
        }
        let schemas = document["components"]?["schemas"]?.object ?? JSONObject()
        for reference in Set(references(document)) {
            let name = reference.replacing("#/components/schemas/", with: "")
            #expect(schemas[name] != nil, "\(reference)")
        }
        for member in schemas.members {
            guard let example = member.value["example"] else { continue }
            #expect(Conformance.complaints(example, member.value, document, at: member.key) == [])
        }
        for endpoint in Endpoint.all {
            for parameter in endpoint.allParameters where parameter.schema["type"] != "string" {
                #expect(Conformance.complaints(parameter.example, parameter.schema, document, at: parameter.name) == [])
            }
        }
    }

    @Test("The contract's routes are all there", .timeLimit(.minutes(5)))
    func contract() {
        let contract = """
            POST remember, POST remember/batch, GET recall, POST recall, GET {memory_id}, PATCH {memory_id}, DELETE {memory_id},
            GET {memory_id}/history, DELETE clients/{client_id}, GET clients/{client_id}/export,
            POST clients/{client_id}/import, POST docs, GET docs, GET docs/{doc_id}, DELETE docs/{doc_id}, GET search/docs,
            PUT graph/nodes/{node_id}, GET graph/nodes/{node_id}, DELETE graph/nodes/{node_id}, PUT graph/edges,
            DELETE graph/edges, POST graph/batch, GET graph/neighbors, GET graph/path, GET similar/events,
            GET similar/projects, POST events, GET events, GET events/{id}, GET events/stats, GET events/stream, POST plans,
            GET plans, GET plans/{id}, PATCH plans/{id}, POST plans/{id}/schedules, GET plans/{id}/schedules, POST runs,
            PATCH runs/{run_id}, GET runs, GET runs/stats, GET runs/drift, GET templates, GET templates/{name},
            PUT templates/{name}, POST reflections, GET reflections, POST agent-memories,
            POST sessions/{session_id}/messages, GET sessions/{session_id}/messages, GET sessions/{session_id}/state,
            PUT sessions/{session_id}/state, DELETE sessions/{session_id}/state, DELETE sessions/{session_id}
            """
            .split(separator: ",").map { $0.split(whereSeparator: \.isWhitespace).map(String.init) }
        let routes = Set(Endpoint.all.map { "\($0.method) \($0.path)" })
        for route in contract { #expect(routes.contains("\(route[0]) /api/v1/memory/\(route[1])"), "\(route)") }
        for path in ["/health", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"] {
            #expect(routes.contains("GET \(path)"))
        }
    }

    @Test("The document and its page are served, and need nothing from elsewhere", .timeLimit(.minutes(5)))
    func served() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            let served = try await gateway.get("/openapi.json")
            #expect(served.status == 200 && served.json == document)
            let page = try await gateway.get("/docs")
            #expect(page.status == 200 && page.text.contains("openapi.json"))
            #expect(!page.text.contains("http://") && !page.text.contains("https://") && !page.text.contains("src="))
        }
    }

    @Test("A method that a route does not have is a 405 that names those it has", .timeLimit(.minutes(5)))
    func methods() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            let reply = try await gateway.send(.put, "/api/v1/memory/recall")
            #expect(reply.status == 405 && reply.headers[.allow] == "GET, HEAD, POST")
            #expect(reply.json["code"] == "method_not_allowed")
            #expect(try await gateway.send(.head, "/health/live").status == 200)
        }
    }

    @Test(
        "Metrics count requests by route, and name what the contract asks for", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func metrics(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            _ = try await gateway.remember("tea")
            for _ in 0..<2 { _ = try await gateway.get("/api/v1/memory/recall?query=tea&client_id=\(client)") }
            _ = try await gateway.get("/api/v1/memory/\(client)/no/such/route/\(client)")
            let reply = try await gateway.get("/metrics")
            #expect(reply.status == 200)
            for name in [
                "memory_gateway_requests_total{route=\"/api/v1/memory/recall\",method=\"GET\",status=\"200\"}",
                "memory_gateway_request_duration_seconds_bucket{route=\"/api/v1/memory/recall\",method=\"GET\",le=\"+Inf\"}",
                "memory_gateway_cache_hit_rate", "memory_gateway_cache_hits_total", "memory_gateway_cache_misses_total",
                "memory_gateway_store_errors_total{store=", "memory_gateway_outbox_pending",
                "memory_gateway_valkey_evicted_keys_total", "memory_gateway_embedding_requests_total",
                "memory_gateway_embedding_tokens_total", "process_resident_memory_bytes", "process_cpu_seconds_total",
            ] {
                #expect(reply.text.contains(name), "\(name)")
            }
            // What the dashboard asks for is there.
            let dashboard = try String(
                contentsOf: TestServers.packageRoot.appendingPathComponent("deploy/grafana-dashboard.json"),
                encoding: .utf8)
            for name in Set(dashboard.split { !$0.isLetter && !$0.isNumber && $0 != "_" }) {
                guard name.hasPrefix("memory_gateway_") || name.hasPrefix("process_") else { continue }
                #expect(reply.text.contains("\n\(name)"), "\(name)")
            }
            // A caller cannot invent labels.
            #expect(!reply.text.contains("such"))
            let lines = reply.text.split(separator: "\n").filter { !$0.hasPrefix("#") }
            #expect(lines.allSatisfy { Double($0.split(separator: " ").last ?? "") != nil })
            #expect(Set(lines.map { $0.split(separator: " ").dropLast() }).count == lines.count)
        }
    }
}
