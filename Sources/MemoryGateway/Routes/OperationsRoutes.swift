import Hummingbird
import MemoryCore

/// What operators and developers look at: numbers, and the description of the API.
enum OperationsRoutes {
    static func endpoints(document: [UInt8]) -> [Endpoint] {
        [
            Endpoint(
                method: .get, path: "/metrics", tag: "Operations", summary: "Numbers for Prometheus", tenancy: .shared,
                writes: false,
                answers: [
                    Endpoint.Answer(
                        status: .ok, schema: nil, text: "Prometheus' text format.",
                        contentType: "text/plain; version=0.0.4")
                ], isAlwaysServed: true
            ) { call in
                let text = await GatewayMetrics.text(call.memory)
                return Response(
                    status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                    body: ResponseBody(byteBuffer: .init(string: text)))
            },
            Endpoint(
                method: .get, path: "/openapi.json", tag: "Operations", summary: "This description", tenancy: .open,
                writes: false, answers: [.ok("OpenAPI")]
            ) { _ in .json(document) },
            Endpoint(
                method: .get, path: "/docs", tag: "Operations", summary: "This description, for people", tenancy: .open,
                writes: false,
                answers: [Endpoint.Answer(status: .ok, schema: nil, text: "A page.", contentType: "text/html")]
            ) { _ in
                Response(
                    status: .ok,
                    headers: [
                        .contentType: "text/html; charset=utf-8",
                        .contentSecurityPolicy:
                            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
                    ], body: ResponseBody(byteBuffer: .init(string: DocsPage.html)))
            },
        ]
    }

    static let schemas: [(String, JSON)] = [("OpenAPI", ["type": "object"])]
}
