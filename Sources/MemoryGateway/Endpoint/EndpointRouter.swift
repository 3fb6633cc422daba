import HTTPTypes
import Hummingbird
import MemoryCore

/// Puts endpoints into a router: each request is admitted, read and checked the same way before its handler sees it.
struct EndpointRouter {
    let memory: Memory
    let admission: Admission

    func add(_ endpoints: [Endpoint], to router: Router<GatewayContext>) {
        for endpoint in endpoints {
            router.on(Self.routerPath(endpoint.path), method: endpoint.method) { request, context in
                try await respond(endpoint, request, context)
            }
        }
    }

    /// `{id}` is `:id` to the router.
    private static func routerPath(_ path: String) -> RouterPath {
        RouterPath(path.replacing("{", with: ":").replacing("}", with: ""))
    }

    private func respond(
        _ endpoint: Endpoint, _ request: Request, _ context: GatewayContext
    ) async throws -> Response {
        let access = try await admission.admit(request, context, endpoint)
        let path = try Self.path(endpoint, context)
        let query = try request.queryObject(endpoint.allParameters)
        var body = JSONObject()
        if case .json(_, let maxBytes) = endpoint.body { body = try await request.jsonObject(maxBytes: maxBytes) }
        let client = try Admission.client(access, endpoint.tenancy, path: path, query: query, body: body)
        return try await endpoint.handle(
            Call(
                memory: memory, request: request, context: context, path: path, query: query, body: body,
                client: client))
    }

    /// The path's parameters, decoded: a `/` within one is `%2F`.
    private static func path(_ endpoint: Endpoint, _ context: GatewayContext) throws(MemoryError) -> JSONObject {
        var object = JSONObject()
        for parameter in endpoint.allParameters where parameter.isInPath {
            guard let raw = context.parameters.get(parameter.name),
                let value = raw[...].percentDecoded(plusIsSpace: false), !value.utf8.contains(0)
            else {
                throw MemoryError(
                    invalid: "\(parameter.name) is not percent-encoded UTF-8 without NUL", field: parameter.name)
            }
            try parameter.checkLength(value)
            object[parameter.name] = parameter.isNumber ? Request.number(value) : .string(value)
        }
        return object
    }

    /// The methods that the routes of a path have; none when there is no such path.
    static func methods(at path: String) -> [HTTPRequest.Method] {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let fitting = Endpoint.all.filter { endpoint in
            let own = endpoint.path.split(separator: "/", omittingEmptySubsequences: false)
            return own.count == parts.count
                && zip(own, parts).allSatisfy { ($0.hasPrefix("{") && !$1.isEmpty) || $0 == $1 }
        }
        // As in the router, a fixed path goes before one with parameters.
        let best = fitting.map(\.path).min { $0.count { $0 == "{" } < $1.count { $0 == "{" } }
        let methods = fitting.filter { $0.path == best }.map(\.method)
        return methods.contains(.get) ? methods + [.head] : methods
    }
}
