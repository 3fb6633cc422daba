import HTTPTypes
import Hummingbird
import MemoryCore

/// Puts endpoints into a router: each request is admitted, read and checked the same way before its handler sees it.
struct EndpointRouter {
    let memory: Memory
    let admission: Admission
    let gate: OverloadGate
    let bodies: BodyReading

    func add(_ endpoints: [Endpoint], to router: Router<GatewayContext>) {
        for endpoint in endpoints {
            let route = Route(endpoint)
            router.on(Self.routerPath(endpoint.path), method: endpoint.method) { request, context in
                try await respond(route, request, context)
            }
        }
    }

    /// `{id}` is `:id` to the router.
    private static func routerPath(_ path: String) -> RouterPath {
        RouterPath(path.replacing("{", with: ":").replacing("}", with: ""))
    }

    private func respond(
        _ route: Route, _ request: Request, _ context: GatewayContext
    ) async throws -> Response {
        var key: String?
        do {
            let access = try await admit(request, context, route, &key)
            return try await serve(route, request, context, access)
        } catch let error as MemoryError {
            let address = admission.proxies.caller(request, context)
            admission.refusals.note(error, key: key, address: address, path: route.path)
            throw error
        }
    }

    private func serve(
        _ route: Route, _ request: Request, _ context: GatewayContext, _ access: Access
    ) async throws -> Response {
        guard !route.isAlwaysServed else { return try await answer(route, request, context, access, body: nil) }
        do {
            // Keys take turns; without keys, addresses do.
            let key = access.keyID ?? context.address ?? ""
            var body: BodyReading.Body?
            if let maxBytes = route.maxBodyBytes {
                try gate.check(key)
                body = try await bodies.bytes(request, maxBytes: maxBytes)
            }
            guard route.takesPlace else { return try await answer(route, request, context, access, body: body) }
            try await gate.enter(key)
            defer { gate.leave() }
            return try await answer(route, request, context, access, body: body)
        } catch var error as MemoryError where error.code == .overloaded && route.writes {
            error.outcome = .notStored
            throw error
        }
    }

    private func answer(
        _ route: Route, _ request: Request, _ context: GatewayContext, _ access: Access, body: BodyReading.Body?
    ) async throws -> Response {
        let path = try Self.path(route.reading.path, context)
        let query = try request.queryObject(route.reading.query)
        // What was built of the body takes its room until the answer is made.
        let room = body?.room
        defer { withExtendedLifetime(room) {} }
        let object = if let body { try await bodies.object(body, list: route.list) } else { JSONObject() }
        let tenant = try Tenant(
            access, route.tenancy, writes: route.writes, path: path, query: query, body: object)
        return try await route.handle(
            Call(
                memory: memory, request: request, context: context, path: path, query: query, body: object,
                tenant: tenant, access: access, admission: admission))
    }

    /// A write that is not let in because the keys cannot be read has stored nothing.
    private func admit(
        _ request: Request, _ context: GatewayContext, _ route: Route, _ key: inout String?
    ) async throws(MemoryError) -> Access {
        do throws(MemoryError) {
            return try await admission.admit(request, in: context, to: route, key: &key)
        } catch {
            var error = error
            if route.writes { error.outcome = error.outcome ?? .notStored }
            throw error
        }
    }

    /// What serving an endpoint needs of it, behind one reference.
    final class Route: Sendable {
        let path: String
        let tenancy: Endpoint.Tenancy
        let writes: Bool
        let reading: Endpoint.Reading
        /// Nil when no JSON body is read.
        let maxBodyBytes: Int?
        /// The member of the body whose items fail alone.
        let list: String?
        let isAlwaysServed: Bool
        /// Whether it is asked by proxies and supervisors, under any name.
        var isHealth: Bool { path.hasPrefix("/health") }
        /// Lines are read by the handler, which takes as long as their sender does.
        let takesPlace: Bool
        let handle: @Sendable (Call) async throws -> Response

        init(_ endpoint: Endpoint) {
            path = endpoint.path
            tenancy = endpoint.tenancy
            writes = endpoint.writes
            reading = endpoint.reading
            if case .json(_, let maxBytes) = endpoint.body { maxBodyBytes = maxBytes } else { maxBodyBytes = nil }
            if case .clients(let items) = endpoint.tenancy { list = items } else { list = nil }
            isAlwaysServed = endpoint.isAlwaysServed
            if case .lines = endpoint.body { takesPlace = false } else { takesPlace = true }
            handle = endpoint.handle
        }
    }

    /// The path's parameters, decoded: a `/` within one is `%2F`.
    private static func path(
        _ fields: [Endpoint.Reading.Field], _ context: GatewayContext
    ) throws(MemoryError) -> JSONObject {
        var object = JSONObject()
        for field in fields {
            guard let raw = context.parameters.get(field.name),
                let value = raw[...].percentDecoded(plusIsSpace: false), !value.utf8.contains(0)
            else {
                throw MemoryError(
                    invalid: "\(field.name) is not percent-encoded UTF-8 without NUL", field: field.name)
            }
            object[field.name] = try field.value(value)
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
