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
    let browsers: BrowserGuard
    let refusals: Refusals
    let streams = StreamPlaces()

    /// How often callers may call; nil for no limit.
    struct RateLimits: Sendable {
        var perKey: RateLimit?
        var perAddress: RateLimit?
    }

    init(memory: Memory, configuration: GatewayConfiguration, refusals: Refusals) {
        self.memory = memory
        rates = configuration.rates
        proxies = configuration.proxies
        allowsAnonymous = configuration.allowsAnonymous
        browsers = configuration.browsers
        self.refusals = refusals
    }

    /// `key`: which key it is, known also when it is refused.
    /// - Throws: ``MemoryError``: `rate_limited`, `unauthorized`, or `forbidden`.
    func admit(
        _ request: Request, in context: GatewayContext, to endpoint: EndpointRouter.Route, key: inout String?
    ) async throws(MemoryError) -> Access {
        if let limit = rates.perAddress, let address = proxies.caller(request, context) {
            try await take("address:\(address)", limit)
        }
        guard endpoint.tenancy != .open else {
            if !endpoint.isHealth, (try? await memory.isOpen()) == true { try browsers.check(request, isPublic: true) }
            return .open
        }
        let access = try await memory.access(Self.presentedKey(request))
        key = access.keyID
        guard key != nil || allowsAnonymous else {
            throw MemoryError(
                .unauthorized, "There are no API keys yet, and ALLOW_ANONYMOUS is not set: create one (keys create)")
        }
        if key == nil { try browsers.check(request, isPublic: false) }
        if let limit = rates.perKey, let key { try await take(key, limit) }
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

    /// Whether a key that began a long answer still lets it go on. Not being able to tell is no reason to end it.
    func stillAdmits(_ request: Request, _ access: Access) async -> Bool {
        do throws(MemoryError) {
            return try await memory.access(Self.presentedKey(request)) == access
        } catch {
            return error.code != .unauthorized
        }
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
