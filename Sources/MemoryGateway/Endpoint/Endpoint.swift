import HTTPTypes
import Hummingbird
import MemoryCore

/// One route: how it is called, who may call it, what it answers. The router, the check of keys and clients, and the
/// OpenAPI document are all made of these, so that none of them can forget one.
struct Endpoint: Sendable {
    /// Whose data a route touches, and where a request says so.
    enum Tenancy: Sendable, Equatable {
        /// A client's; the request must name one.
        case client(Place)
        /// A client's if one is named, what belongs to none if `shared` says so, else all that the key reaches.
        case optionalClient(Place)
        /// Those of the clients that the items of a list in the body name.
        case clients(inItemsOf: String)
        /// What belongs to no client.
        case shared
        /// Nobody's: open to everyone.
        case open

        /// Where `client_id` stands.
        enum Place: Sendable { case path, query, body }
    }

    /// A parameter in the path or the query.
    struct Parameter: Sendable {
        var name: String
        var isInPath = false
        var isRequired = false
        var schema: JSON
        var text: String
        var example: JSON
    }

    /// What a request must bring.
    enum Body: Sendable {
        case none
        /// A JSON object of this schema.
        case json(_ schema: String, maxBytes: Int = 1 << 20)
        /// Lines of JSON, which the handler reads as they come.
        case lines
    }

    /// A successful answer.
    struct Answer: Sendable {
        var status: HTTPResponse.Status
        /// The name of its schema; nil for an answer without a body.
        var schema: String?
        var text: String
        var contentType = "application/json"
    }

    var method: HTTPRequest.Method
    /// As OpenAPI writes it: `/api/v1/memory/plans/{id}`.
    var path: String
    var tag: String
    var summary: String
    var tenancy: Tenancy
    /// Whether a key must be allowed to write. Reading with a body is a POST too.
    var writes: Bool
    var parameters: [Parameter] = []
    var body = Body.none
    var answers: [Answer]
    /// Statuses of errors that only some routes have.
    var errors: Set<Int> = []
    var takesIdempotencyKey = false
    /// Whether it is answered under any load: never queued, never refused as overloaded.
    var isAlwaysServed = false
    var handle: @Sendable (Call) async throws -> Response

    /// What reading a request must know of its parameters, worked out once.
    struct Reading: Sendable {
        struct Field: Sendable {
            let name: String
            let isNumber: Bool
            /// How many characters it may have, if it matters.
            let length: ClosedRange<Int64>?

            init(_ parameter: Parameter) {
                name = parameter.name
                let isInteger = ["integer", "number"].contains(parameter.schema["type"]?.string ?? "")
                // A row's id in a path is a text until it is read as one.
                isNumber = isInteger && (!parameter.isInPath || name == "client_id")
                let bounds = (parameter.schema["minLength"]?.int, parameter.schema["maxLength"]?.int)
                if let least = bounds.0, let most = bounds.1 { length = least...most } else { length = nil }
            }
        }

        let path: [Field]
        let query: [Field]
    }

    var reading: Reading {
        let all = allParameters
        return Reading(
            path: all.filter(\.isInPath).map(Reading.Field.init),
            query: all.filter { !$0.isInPath }.map(Reading.Field.init))
    }

    /// All parameters, with the one that the tenancy needs.
    var allParameters: [Parameter] {
        switch tenancy {
        case .client(.query): parameters + [.clientID(isRequired: true)]
        case .optionalClient(.query): parameters + [.clientID(isRequired: false), .shared]
        case .client(.path): [.clientID(isRequired: true, isInPath: true)] + parameters
        default: parameters
        }
    }
}

extension Endpoint.Parameter {
    static func path(_ name: String, _ schema: JSON, _ text: String, example: JSON) -> Self {
        Self(name: name, isInPath: true, isRequired: true, schema: schema, text: text, example: example)
    }

    static func query(
        _ name: String, _ schema: JSON, _ text: String, example: JSON, isRequired: Bool = false
    ) -> Self {
        Self(name: name, isRequired: isRequired, schema: schema, text: text, example: example)
    }

    fileprivate static func clientID(isRequired: Bool, isInPath: Bool = false) -> Self {
        Self(
            name: "client_id", isInPath: isInPath, isRequired: isRequired, schema: Schema.clientID,
            text: "The client. A key that is bound to one client need not name it in a query or body.", example: 1)
    }

    fileprivate static let shared = query(
        "shared", Schema.boolean, "Only what belongs to no client; instead of `client_id`.", example: true)

    /// `limit` and `cursor`, which every list takes.
    static let page: [Self] = [
        .query("limit", Schema.integer(1...500), "How many items at most; 50 unless given.", example: 50),
        .query("cursor", Schema.cursor, "The `next_cursor` of the answer before.", example: "1000"),
    ]

    static func limit(_ standard: Int) -> Self {
        .query(
            "k", Schema.integer(1...100), "How many at most; \(standard) unless given.", example: .int(Int64(standard)))
    }

    static func since(_ text: String) -> Self {
        .query("since", Schema.timestamp, text, example: "2026-01-01T00:00:00Z")
    }
}

extension Endpoint.Answer {
    static func ok(_ schema: String, _ text: String = "It is as answered.") -> Self {
        Self(status: .ok, schema: schema, text: text)
    }

    static func created(_ schema: String) -> Self { Self(status: .created, schema: schema, text: "It was stored.") }

    static func partly(_ schema: String) -> Self {
        Self(status: .multiStatus, schema: schema, text: "It was stored, but not everywhere yet.")
    }

    static let gone = Self(status: .noContent, schema: nil, text: "It is gone.")
}

/// A request that was admitted: its parameters and body as JSON, its client checked. A class, because as a value each hand-over
/// would count a dozen references.
final class Call: Sendable {
    let memory: Memory
    let request: Request
    let context: GatewayContext
    let path: JSONObject
    let query: JSONObject
    let body: JSONObject
    /// Whose data it is about, as the key allows.
    let tenant: Tenant
    /// What the key allows.
    let access: Access
    private let admission: Admission

    init(
        memory: Memory, request: Request, context: GatewayContext, path: JSONObject, query: JSONObject,
        body: JSONObject, tenant: Tenant, access: Access, admission: Admission
    ) {
        self.memory = memory
        self.request = request
        self.context = context
        self.path = path
        self.query = query
        self.body = body
        self.tenant = tenant
        self.access = access
        self.admission = admission
    }

    /// Whether the key still lets a long answer go on.
    func isStillAdmitted() async -> Bool { await admission.stillAdmits(request, access) }

    /// A place for an event stream, as long as it is held.
    func takeStreamPlace() throws(MemoryError) -> StreamPlaces.Place? { try admission.streams.take(access.keyID) }

    var queryFields: FieldReader { FieldReader(query) }
    var bodyFields: FieldReader { FieldReader(body) }

    /// The client of a route that needs one.
    func requiredClient() throws(MemoryError) -> Int { try tenant.requiredClient() }

    /// A text in the path.
    func text(_ name: String) throws(MemoryError) -> String { try FieldReader(path).requiredString(name) }

    /// A row's id in the path.
    func id(_ name: String) throws(MemoryError) -> Int64 {
        guard let id = Int64(try text(name)) else {
            throw MemoryError(invalid: "\(name) must be an integer", field: name)
        }
        return id
    }

    /// The body with the client that is meant.
    var bodyWithClient: JSONObject { Self.with(tenant.owner?.clientID, body) }

    /// The query with the client that is meant.
    var queryWithClient: JSONObject { Self.with(tenant.owner?.clientID, query) }

    private static func with(_ client: Int?, _ object: JSONObject) -> JSONObject {
        guard let client, object["client_id"] == nil else { return object }
        var object = object
        object["client_id"] = .int(Int64(client))
        return object
    }
}
