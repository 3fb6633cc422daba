import Crypto

extension Sequence<UInt8> {
    /// Two lowercase hexadecimal digits for each byte.
    var hex: String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in self {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}

/// SHA-256 of parts, each with its length in front, so that no two different lists of parts have the same input.
func sha256(_ parts: String...) -> [UInt8] {
    var hash = SHA256()
    for part in parts {
        hash.update(data: Array(lengthPrefix(part)))
        hash.update(data: Array(part.utf8))
    }
    return Array(hash.finalize())
}

/// SHA-256 of a text's bytes, as any other program computes it.
func sha256(plain text: String) -> [UInt8] { Array(SHA256.hash(data: Array(text.utf8))) }

private func lengthPrefix(_ part: String) -> [UInt8] {
    let count = UInt64(part.utf8.count)
    return (0..<8).map { UInt8(truncatingIfNeeded: count >> (56 - 8 * $0)) }
}
