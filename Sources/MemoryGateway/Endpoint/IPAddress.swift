import Glibc

/// An address of either kind, as its sixteen bytes: IPv4 is what IPv6 maps it to (`::ffff:a.b.c.d`), so that one address has
/// one form, however it is written.
struct IPAddress: Sendable, Hashable {
    private let high: UInt64
    private let low: UInt64

    private init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// An address as text, without brackets, port or zone; nil for anything else.
    init?(_ text: String) {
        guard text.utf8.count <= 45, !text.utf8.contains(0) else { return nil }
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            self.init(high: 0, low: 0xFFFF_0000_0000 | UInt64(UInt32(bigEndian: four.s_addr)))
            return
        }
        var six = in6_addr()
        guard inet_pton(AF_INET6, text, &six) == 1 else { return nil }
        let bytes = withUnsafeBytes(of: six) { Array($0) }
        func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        self.init(high: number(bytes[..<8]), low: number(bytes[8...]))
    }

    /// Whether it is an IPv4 address, in either form.
    var isIPv4: Bool { high == 0 && low >> 32 == 0xFFFF }

    /// Whether only this machine answers to it.
    var isLoopback: Bool { isIPv4 ? low >> 24 & 0xFF == 127 : high == 0 && low == 1 }

    /// The network that its first bits name, counted as IPv6 counts them.
    func network(bits: Int) -> IPAddress {
        func mask(_ bits: Int) -> UInt64 { bits <= 0 ? 0 : bits >= 64 ? .max : ~(.max >> UInt64(bits)) }
        return IPAddress(high: high & mask(bits), low: low & mask(bits - 64))
    }

    /// Whose address it is, as far as limits go: an IPv4 address is one caller; of IPv6 a caller has at least a /64.
    var caller: IPAddress { isIPv4 ? self : network(bits: 64) }

    /// A text that is the same for the same address.
    var key: String {
        guard !isIPv4 else { return (0..<4).reversed().map { String(low >> ($0 * 8) & 0xFF) }.joined(separator: ".") }
        return String(high, radix: 16) + ":" + String(low, radix: 16)
    }
}
