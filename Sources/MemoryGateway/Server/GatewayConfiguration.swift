import Configuration
import Glibc
import Logging
import MemoryCore

/// How the gateway itself runs.
struct GatewayConfiguration: Sendable {
    /// The address to listen on. Loopback, because without keys the gateway is open.
    var host = "127.0.0.1"
    /// The port to listen on.
    var port = 8090
    /// How many connections may be open; one more waits until another is closed. Never more than the process may open
    /// files, less those that the stores need: without files, accepting would go round in circles.
    var maxConnections = Self.files - 64
    /// How many requests work at once, and how long others wait for that.
    var admission = AdmissionLimits()
    /// How much memory the bodies of all requests may take.
    var maxBodyBytes = 64 << 20
    /// From which level on to log.
    var logLevel = Logger.Level.info

    /// How often callers may call.
    var rates = Admission.RateLimits()
    /// Whose word on a caller's address counts.
    var proxies = TrustedProxies.none

    /// By which names a gateway without keys may be called.
    var browsers = BrowserGuard()
    /// Whether a gateway without keys may serve an address beyond loopback.
    var isAnonymousAsked = false

    /// Whether it serves without keys: on loopback, or where that was asked for.
    var allowsAnonymous: Bool { isAnonymousAsked || Self.isLoopback(host) }

    init() {}

    /// Whether only this machine reaches an address. A name other than `localhost` may be anything.
    private static func isLoopback(_ host: String) -> Bool {
        host.lowercased() == "localhost" || IPAddress(host)?.isLoopback == true
    }

    /// How many files this process may have open, 128 at least and 65,536 at most.
    private static let files: Int = {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        return Int(min(max(limit.rlim_cur, 128), 65_536))
    }()

    /// - `API_HOST` (127.0.0.1), `API_PORT` or `PORT` (8090), `API_MAX_CONNECTIONS` (4096), `LOG_LEVEL` (info)
    /// - `API_MAX_CONCURRENCY` (requests that are worked on at once, 1...10,000; 64), `API_MAX_BODY_MB` (for the bodies of all
    ///   requests at once, 64...65,536; 64)
    /// - `ALLOW_ANONYMOUS` (false), `ALLOWED_HOSTS` (none)
    /// - `RATE_LIMIT_PER_KEY`, `RATE_LIMIT_PER_ADDRESS` (calls a second, 0.01...1,000,000; none), `RATE_LIMIT_BURST`
    ///   (one second's calls), `TRUSTED_PROXIES` (none)
    ///
    /// - Throws: ``MemoryError`` with `configuration`, naming the variable.
    init(reader: ConfigReader) throws(MemoryError) {
        let settings = Settings(reader: reader)
        host = settings.string("API_HOST") ?? host
        let ports = (try settings.int("API_PORT", 0...65_535), try settings.int("PORT", 0...65_535))
        port = ports.0 ?? ports.1 ?? port
        maxConnections = min(try settings.int("API_MAX_CONNECTIONS", 1...65_536) ?? 4096, maxConnections)
        admission.places = try settings.int("API_MAX_CONCURRENCY", 1...10_000) ?? admission.places
        if let size = try settings.int("API_MAX_BODY_MB", 64...65_536) { maxBodyBytes = size << 20 }
        isAnonymousAsked = try settings.bool("ALLOW_ANONYMOUS") ?? false
        if let list = settings.string("ALLOWED_HOSTS") { browsers = try BrowserGuard(list) }
        try readRates(settings)
        if let list = settings.string("TRUSTED_PROXIES") { proxies = try TrustedProxies(list) }
        guard let name = settings.string("LOG_LEVEL") else { return }
        guard let level = Logger.Level(rawValue: name.lowercased()) else {
            let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw Settings.wrong("LOG_LEVEL", "one of \(levels)")
        }
        logLevel = level
    }

    private mutating func readRates(_ settings: Settings) throws(MemoryError) {
        let burst = try settings.int("RATE_LIMIT_BURST", 1...1_000_000)
        func limit(_ name: String) throws(MemoryError) -> RateLimit? {
            try settings.double(name, 0.01...1_000_000).map { RateLimit(perSecond: $0, burst: burst) }
        }
        rates.perKey = try limit("RATE_LIMIT_PER_KEY")
        rates.perAddress = try limit("RATE_LIMIT_PER_ADDRESS")
    }
}
