/// Proves of a cached value whose it is, under which key it was put, and that it is whole. Anything else found under a
/// key (another program's value, an older format, a cut one) is a miss.
///
/// Layout: `MG` · version (1) · client (4) · first 16 bytes of SHA-256 of the key · tag (8) · payload · FNV-1a of all (8).
enum CacheEnvelope {
    private static let magic = Array("MG\u{1}".utf8)
    private static let headerCount = 3 + 4 + 16 + 8
    private static let checksumCount = 8

    /// Wraps a payload. The tag is what the reader must know as well for the value to count, such as a generation.
    static func seal(_ payload: [UInt8], clientID: Int, key: String, tag: UInt64 = 0) -> [UInt8] {
        var bytes = header(clientID, key)
        bytes.append(contentsOf: tag.bytes)
        bytes.append(contentsOf: payload)
        bytes.append(contentsOf: checksum(bytes[...]).bytes)
        return bytes
    }

    /// The payload and the tag, or nil for anything that was not sealed for this client and key.
    static func open(_ bytes: [UInt8], clientID: Int, key: String) -> (payload: [UInt8], tag: UInt64)? {
        guard bytes.count >= headerCount + checksumCount else { return nil }
        let content = bytes.dropLast(checksumCount)
        guard content.starts(with: header(clientID, key)), UInt64(bytes.suffix(checksumCount)) == checksum(content)
        else { return nil }
        let tag = UInt64(bytes[(headerCount - 8)..<headerCount])
        return (Array(content.dropFirst(headerCount)), tag)
    }

    private static func header(_ clientID: Int, _ key: String) -> [UInt8] {
        magic + UInt64(UInt32(truncatingIfNeeded: clientID)).bytes.suffix(4) + Array(sha256(key).prefix(16))
    }

    /// 64-bit FNV-1a: against accidents, not against an attacker, who could write anything there anyway.
    private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}

extension UInt64 {
    /// Eight bytes, the highest first.
    var bytes: [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: self >> (56 - 8 * $0)) } }

    init(_ bytes: ArraySlice<UInt8>) { self = bytes.reduce(0) { $0 << 8 | UInt64($1) } }
}
