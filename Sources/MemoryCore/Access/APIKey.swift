/// What a key allows.
public struct Access: Sendable, Equatable {
    /// What may be done with the data that belongs to no client: the graph, runs, templates, shared documents, metrics.
    public enum Sharing: Int, Sendable, Comparable {
        /// Nothing.
        case none
        /// It may be read.
        case read
        /// It may be read and written.
        case write

        /// Whether it allows less.
        public static func < (left: Sharing, right: Sharing) -> Bool { left.rawValue < right.rawValue }
    }

    /// Which key, for logs and rate limits; nil when the gateway has none.
    public let keyID: String?
    /// The clients it is bound to.
    public let clients: Clients
    /// Whether it may write.
    public let canWrite: Bool
    /// What it may do with what belongs to no client.
    public let sharing: Sharing

    /// Everything: for a gateway without keys.
    public static let open = Access(keyID: nil, clients: .all, canWrite: true, sharing: .write)

    /// Whether it may use what belongs to no client.
    public func allowsShared(writing: Bool) -> Bool { sharing >= (writing ? .write : .read) }

    /// Whose data it reaches when nobody is named.
    public func owners(writing: Bool) -> Owners {
        Owners(clients, includesShared: allowsShared(writing: writing))
    }
}

/// A key as it is stored: everything but the key itself.
public struct APIKey: Sendable {
    /// Its id, for `keys revoke`.
    public let id: Int64
    /// What it is for.
    public let name: String
    /// The first characters of the key, to recognise it by.
    public let hint: String
    /// The clients it is bound to, ascending; nil for all.
    public let clients: [Int]?
    /// Whether it may write.
    public let canWrite: Bool
    /// What it may do with what belongs to no client.
    public let sharing: Access.Sharing
    /// When it was created.
    public let createdAt: Timestamp
    /// When it ends by itself.
    public let expiresAt: Timestamp?
    /// When it was revoked.
    public let revokedAt: Timestamp?

    func isLive(at moment: Timestamp) -> Bool { revokedAt == nil && (expiresAt.map { $0 > moment } ?? true) }
}

/// A key to create.
public struct APIKeyDraft: Sendable {
    /// What it is for, at most 100 characters.
    public var name: String
    /// The clients it is bound to; nil for all.
    public var clients: [Int]?
    /// Whether it may write.
    public var canWrite = true
    /// What it may do with what belongs to no client; nil: everything when it is bound to none, else nothing.
    public var sharing: Access.Sharing?
    /// When it ends by itself.
    public var expiresAt: Timestamp?

    /// A key for everything.
    public init(name: String, clients: [Int]? = nil) {
        self.name = name
        self.clients = clients
    }

    func validate() throws(MemoryError) {
        try Limits.check(name, "name", maxCharacters: 100)
        guard let clients else { return }
        guard !clients.isEmpty, clients.count <= 1000 else {
            throw .invalid("a key is bound to 1 to 1000 clients, or to none", field: "client")
        }
        for client in clients { try Limits.check(clientID: client) }
    }
}

/// The text of a key: `mg_`, 256 random bits and a checksum, both in base 62; so that scanners know it when they see it, and
/// a mistyped one is told from an unknown one without looking anywhere.
///
/// Source of the form: GitHub, "Behind GitHub's new authentication token formats", 2021.
enum KeyText {
    static let prefix = "mg_"
    private static let digits = Array("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".utf8)
    private static let randomCount = 43
    private static let checksumCount = 6

    /// A new key.
    static func make() -> Secret {
        var generator = SystemRandomNumberGenerator()
        let bytes = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        let random = base62(bytes, count: randomCount)
        return Secret(prefix + random + checksum(random))
    }

    /// Whether a text has the form and the checksum of a key.
    static func isWellFormed(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard bytes.count == prefix.utf8.count + randomCount + checksumCount, text.hasPrefix(prefix) else {
            return false
        }
        let random = String(decoding: bytes.dropFirst(prefix.utf8.count).prefix(randomCount), as: UTF8.self)
        return text.hasSuffix(checksum(random))
    }

    /// A big-endian number in base 62, by repeated division.
    private static func base62(_ bytes: [UInt8], count: Int) -> String {
        var number = bytes
        var text: [UInt8] = []
        for _ in 0..<count {
            var remainder = 0
            for place in number.indices {
                let value = remainder << 8 | Int(number[place])
                number[place] = UInt8(truncatingIfNeeded: value / 62)
                remainder = value % 62
            }
            text.append(digits[remainder])
        }
        return String(decoding: text.reversed(), as: UTF8.self)
    }

    /// CRC-32 (IEEE 802.3) in base 62.
    private static func checksum(_ text: String) -> String {
        var crc: UInt32 = 0xFFFF_FFFF
        for byte in text.utf8 {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
        }
        let value = ~crc
        let bytes = (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * UInt32($0))) }
        return base62(bytes, count: checksumCount)
    }
}
