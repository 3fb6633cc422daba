import HTTPTypes
import Hummingbird
import MemoryCore

/// Decides who may do what: the one place where keys, rights, clients and rates are checked, before a body is read.
struct Admission: Sendable {
    let memory: Memory
    let rates: RateLimits
    let proxies: TrustedProxies

    /// How often callers may call; nil for no limit.
    struct RateLimits: Sendable {
        var perKey: RateLimit?
        var perAddress: RateLimit?
    }

    /// - Throws: ``MemoryError``: `rate_limited`, `unauthorized`, or `forbidden`.
    func admit(_ request: Request, _ context: GatewayContext, _ endpoint: EndpointRouter.Route)
        async throws(MemoryError) -> Access
    {
        if let limit = rates.perAddress, let address = proxies.caller(request, context) {
            try await take("address:\(address)", limit)
        }
        guard endpoint.tenancy != .open else { return .open }
        let access = try await memory.access(Self.presentedKey(request))
        if let limit = rates.perKey, let key = access.keyID { try await take(key, limit) }
        guard access.canWrite || !endpoint.writes else {
            throw MemoryError(.forbidden, "This API key may only read")
        }
        guard access.canShare || endpoint.tenancy != .shared else {
            throw MemoryError(.forbidden, "This API key is bound to clients, and this belongs to none")
        }
        return access
    }

    private func take(_ caller: String, _ limit: RateLimit) async throws(MemoryError) {
        guard let wait = await memory.take(caller, limit) else { return }
        var error = MemoryError(.rateLimited, "Too many requests, please wait")
        error.retryAfter = wait
        throw error
    }

    private static func presentedKey(_ request: Request) -> String? {
        if let authorization = request.headers[.authorization] {
            let parts = authorization.split(separator: " ", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == "bearer" else { return authorization }
            return String(parts[1])
        }
        return request.headers[.apiKey]
    }

    // MARK: Clients

    /// The client that a request means: as it says, else the only one of its key.
    ///
    /// - Throws: ``MemoryError``: `forbidden` when the key does not allow it, wherever it is named; `invalid_request` when
    ///   one is needed and none is named.
    static func client(
        _ access: Access, _ tenancy: Endpoint.Tenancy, path: JSONObject, query: JSONObject, body: JSONObject
    ) throws(MemoryError) -> Int? {
        for object in [path, query, body] { try check(object, access) }
        switch tenancy {
        case .open, .shared: return nil
        case .client(let place):
            let object = place == .path ? path : place == .query ? query : body
            guard let client = try clientID(object) ?? access.onlyClient else {
                throw MemoryError(invalid: "client_id is required", field: "client_id")
            }
            return client
        case .optionalClient(let place):
            let client = try clientID(place == .query ? query : body) ?? access.onlyClient
            guard client != nil || access.canShare else {
                throw MemoryError(invalid: "client_id is required: the API key is bound to clients", field: "client_id")
            }
            return client
        case .clients(let list):
            for item in body[list]?.array ?? [] { if let item = item.object { try check(item, access) } }
            return access.onlyClient
        }
    }

    /// The client that an object names.
    private static func clientID(_ object: JSONObject) throws(MemoryError) -> Int? {
        let client = try FieldReader(object).int("client_id")
        if let client { try Limits.check(clientID: client) }
        return client
    }

    private static func check(_ object: JSONObject, _ access: Access) throws(MemoryError) {
        guard access.clients != nil, let named = object["client_id"] else { return }
        if case .null = named { return }
        guard let client = named.int.flatMap({ Int(exactly: $0) }), access.allows(client: client) else {
            throw MemoryError(.forbidden, "This API key is not for this client", field: "client_id")
        }
    }
}

extension HTTPField.Name {
    static let apiKey = requiredName("X-API-Key")
    static let forwardedFor = requiredName("X-Forwarded-For")
}

/// The proxies whose word on a caller's address counts.
struct TrustedProxies: Sendable {
    /// An IPv4 network, or one address of either kind.
    private enum Entry: Sendable {
        case network(UInt32, mask: UInt32)
        case address(String)

        func contains(_ address: String) -> Bool {
            switch self {
            case .address(let own): own == address
            case .network(let network, let mask): TrustedProxies.ipv4(address).map { $0 & mask == network } ?? false
            }
        }
    }

    private let entries: [Entry]

    /// No proxies: the address of the connection is the caller's.
    static let none = TrustedProxies(entries: [])

    private init(entries: [Entry]) { self.entries = entries }

    /// - Throws: ``MemoryError`` with `configuration` for what is neither an address nor a network such as `10.0.0.0/8`.
    init(_ list: String) throws(MemoryError) {
        var entries: [Entry] = []
        for text in list.split(separator: ",").map({ $0.filter { $0 != " " } }) {
            let parts = text.split(separator: "/", maxSplits: 1).map(String.init)
            if parts.count == 2 {
                guard let network = Self.ipv4(parts[0]), let bits = UInt32(parts[1]), bits <= 32 else {
                    throw Settings.wrong("TRUSTED_PROXIES", "addresses and networks such as 10.0.0.0/8")
                }
                let mask: UInt32 = bits == 0 ? 0 : ~0 << (32 - bits)
                entries.append(.network(network & mask, mask: mask))
            } else {
                entries.append(.address(text))
            }
        }
        self.entries = entries
    }

    /// The caller's address: what the nearest proxy that is not ours says, else that of the connection. A name in a header
    /// counts only when a trusted proxy wrote it.
    func caller(_ request: Request, _ context: GatewayContext) -> String? {
        context.address.map { caller(from: $0, forwardedFor: request.headers[.forwardedFor] ?? "") }
    }

    func caller(from connection: String, forwardedFor: String) -> String {
        var address = connection
        guard !entries.isEmpty else { return address }
        let forwarded = forwardedFor.split(separator: ",").map { $0.filter { $0 != " " } }
        for next in forwarded.reversed() {
            guard entries.contains(where: { $0.contains(address) }) else { break }
            address = next
        }
        return String(address.prefix(64))
    }

    private static func ipv4(_ text: String) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        return parts.reduce(UInt32?(0)) { number, part in
            guard let number, let byte = UInt8(part) else { return nil }
            return number << 8 | UInt32(byte)
        }
    }
}
