import Hummingbird
import MemoryCore

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
