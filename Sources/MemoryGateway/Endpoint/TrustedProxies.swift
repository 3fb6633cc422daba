import Hummingbird
import MemoryCore

/// The proxies whose word on a caller's address counts.
struct TrustedProxies: Sendable {
    /// A network of either kind; one address is a network of all its bits.
    private struct Network: Sendable {
        let prefix: IPAddress
        let bits: Int

        init?(_ text: String) {
            let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard let first = parts.first, let address = IPAddress(first) else { return nil }
            let isShort = !first.contains(":")
            var bits = 128
            if parts.count == 2 {
                let longest = isShort ? 32 : 128
                guard (1...3).contains(parts[1].utf8.count), parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                    let named = Int(parts[1]), named <= longest
                else { return nil }
                // IPv4 is counted behind the 96 bits that map it.
                bits = isShort ? named + 96 : named
            }
            (prefix, self.bits) = (address.network(bits: bits), bits)
        }

        func contains(_ address: IPAddress) -> Bool { address.network(bits: bits) == prefix }
    }

    private let networks: [Network]

    /// No proxies: the address of the connection is the caller's.
    static let none = TrustedProxies(networks: [])

    private init(networks: [Network]) { self.networks = networks }

    /// - Throws: ``MemoryError`` with `configuration` for what is neither an address nor a network such as `10.0.0.0/8`.
    init(_ list: String) throws(MemoryError) {
        networks = try list.split(separator: ",").map { text throws(MemoryError) in
            guard let network = Network(text.filter { $0 != " " }) else {
                throw Settings.wrong("TRUSTED_PROXIES", "addresses and networks such as 10.0.0.0/8 or fd00::/8")
            }
            return network
        }
    }

    /// Who calls: what the nearest proxy that is not ours says, else the connection's address. A header counts only when a
    /// trusted proxy wrote it, and only what is an address: the rest leaves the last one that was.
    func caller(_ request: Request, _ context: GatewayContext) -> String? {
        context.address.map { caller(from: $0, forwardedFor: request.headers[.forwardedFor] ?? "") }
    }

    /// The caller as limits count it: an IPv6 network of 64 bits is one.
    func caller(from connection: String, forwardedFor: String) -> String {
        guard var address = IPAddress(String(connection.prefix { $0 != "%" })) else {
            return String(connection.prefix(64))
        }
        guard !networks.isEmpty else { return address.caller.key }
        for next in forwardedFor.split(separator: ",", omittingEmptySubsequences: false).reversed() {
            guard networks.contains(where: { $0.contains(address) }), let named = Self.address(next) else { break }
            address = named
        }
        return address.caller.key
    }

    /// An address as proxies write it: plain, or with brackets and a port.
    private static func address(_ text: Substring) -> IPAddress? {
        let text = text.filter { $0 != " " && $0 != "\t" }
        if let address = IPAddress(text) { return address }
        guard case .address(let address)? = HostName(text)?.host else { return nil }
        return address
    }
}
