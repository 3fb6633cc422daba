import HTTPTypes
import Hummingbird
import MemoryCore

/// Keeps web pages out of a gateway without keys. A browser takes any page's requests to loopback, and a page whose name was
/// bound again to 127.0.0.1 (DNS rebinding) may even read the answers; but it always says what it was told to ask.
struct BrowserGuard: Sendable {
    /// The names beside `localhost` by which the gateway may be called, and whose pages may call it.
    private let allowed: Set<HostName.Host>

    /// Addresses and `localhost` alone.
    init() { allowed = [] }

    /// - Throws: ``MemoryError`` with `configuration` for what is no host.
    init(_ list: String) throws(MemoryError) {
        var allowed: Set<HostName.Host> = []
        for text in list.split(separator: ",").map({ $0.filter { $0 != " " } }) {
            guard let name = HostName(text), name.port == nil else {
                throw Settings.wrong("ALLOWED_HOSTS", "host names without ports, with commas between")
            }
            allowed.insert(name.host)
        }
        self.allowed = allowed
    }

    /// - Throws: ``MemoryError`` with `forbidden` for what a page of another host had a browser ask.
    func check(_ request: Request, isPublic: Bool) throws(MemoryError) {
        guard let host = request.head.authority.flatMap({ HostName($0) }), isOurs(host.host) else {
            throw MemoryError(
                .forbidden,
                "Without API keys the gateway is called by an address, localhost, or a name in ALLOWED_HOSTS")
        }
        if let origin = request.headers[.origin], !isOurs(origin: origin, host) { throw Self.foreign }
        // Requests without an answer to read (images, `no-cors`) say no origin, but newer browsers say that they are foreign.
        if !isPublic, let site = request.headers[.secFetchSite], !["same-origin", "none"].contains(site) {
            guard let origin = request.headers[.origin], isOurs(origin: origin, host) else { throw Self.foreign }
        }
    }

    private static var foreign: MemoryError {
        MemoryError(.forbidden, "Without API keys no page of another origin is answered; ALLOWED_HOSTS names its host")
    }

    private func isOurs(_ host: HostName.Host) -> Bool {
        switch host {
        case .address: true
        case .name(let name): name == "localhost" || allowed.contains(host)
        }
    }

    /// Whether an origin is that of the request itself, or of a host that is allowed.
    private func isOurs(origin: String, _ host: HostName) -> Bool {
        for (scheme, port) in [("http://", 80), ("https://", 443)] where origin.lowercased().hasPrefix(scheme) {
            guard let named = HostName(origin.dropFirst(scheme.count)) else { return false }
            return allowed.contains(named.host)
                || (named.host == host.host && (named.port ?? port) == (host.port ?? port))
        }
        return false
    }
}

extension HTTPField.Name {
    static let secFetchSite = requiredName("Sec-Fetch-Site")
}
