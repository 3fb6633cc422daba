import HTTPTypes
import Hummingbird
import MemoryCore

/// Decides who may do what: the one place where keys, rights and rates are checked, before a body is read. Which client is
/// meant is read by ``Tenant``.
struct Admission: Sendable {
    let memory: Memory
    let rates: RateLimits
    let proxies: TrustedProxies
    /// Whether a gateway without keys serves; else it refuses everyone.
    let allowsAnonymous: Bool

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
        guard access.keyID != nil || allowsAnonymous else {
            throw MemoryError(
                .unauthorized, "There are no API keys yet, and ALLOW_ANONYMOUS is not set: create one (keys create)")
        }
        if let limit = rates.perKey, let key = access.keyID { try await take(key, limit) }
        guard access.canWrite || !endpoint.writes else {
            throw MemoryError(.forbidden, "This API key may only read")
        }
        guard endpoint.tenancy != .shared || access.allowsShared(writing: endpoint.writes) else {
            throw MemoryError(.forbidden, "This belongs to no client, which this API key may not use")
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
}

extension HTTPField.Name {
    static let apiKey = requiredName("X-API-Key")
    static let forwardedFor = requiredName("X-Forwarded-For")
}
