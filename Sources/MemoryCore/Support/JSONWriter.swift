/// Appends JSON to bytes, with commas put where they belong. The caller closes what it opens.
package struct JSONWriter {
    package private(set) var bytes: [UInt8] = []
    private var needsComma = false

    package init(capacity: Int = 256) { bytes.reserveCapacity(capacity) }

    // MARK: Structure

    package mutating func beginObject() { open("{") }
    package mutating func endObject() { close("}") }
    package mutating func beginArray() { open("[") }
    package mutating func endArray() { close("]") }

    package mutating func key(_ key: String) {
        separate()
        quote(key)
        bytes.append(UInt8(ascii: ":"))
        needsComma = false
    }

    private mutating func open(_ bracket: Unicode.Scalar) {
        separate()
        bytes.append(UInt8(ascii: bracket))
        needsComma = false
    }

    private mutating func close(_ bracket: Unicode.Scalar) {
        bytes.append(UInt8(ascii: bracket))
        needsComma = true
    }

    private mutating func separate() {
        if needsComma { bytes.append(UInt8(ascii: ",")) }
        needsComma = true
    }

    // MARK: Values

    package mutating func string(_ value: String) {
        separate()
        quote(value)
    }

    package mutating func int(_ value: some BinaryInteger) { raw(String(value)) }

    package mutating func bool(_ value: Bool) { raw(value ? "true" : "false") }

    package mutating func null() { raw("null") }

    /// A number with the shortest digits that give it back; what is not finite becomes `null`.
    package mutating func double(_ value: Double) { raw(value.isFinite ? value.description : "null") }

    /// Text that is JSON already.
    package mutating func raw(_ json: String) {
        separate()
        bytes.append(contentsOf: json.utf8)
    }

    /// Bytes that are JSON already.
    package mutating func raw(_ json: [UInt8]) {
        separate()
        bytes.append(contentsOf: json)
    }

    package mutating func strings(_ values: [String]) {
        beginArray()
        for value in values { string(value) }
        endArray()
    }

    package mutating func json(_ value: JSON) {
        switch value {
        case .null: null()
        case .bool(let value): bool(value)
        case .int(let value): int(value)
        case .double(let value): double(value)
        case .string(let value): string(value)
        case .array(let elements):
            beginArray()
            for element in elements { json(element) }
            endArray()
        case .object(let value): object(value)
        }
    }

    package mutating func object(_ value: JSONObject) {
        beginObject()
        for member in value.members {
            key(member.key)
            json(member.value)
        }
        endObject()
    }

    /// A vector, with five decimals: on unit vectors that keeps every cosine to 1e-7, in a third of the bytes.
    mutating func vector(_ values: [Float]) {
        // The longest number is `-9.99999,`, written as one word.
        var text = [UInt8](repeating: 0, count: values.count * 9 + 9)
        text[0] = UInt8(ascii: "[")
        var end = 1
        var bytes = text.mutableSpan
        for value in values {
            guard abs(value) < 9.99999 else { return vectorAtLength(values) }
            Self.writeFixed(value, to: &bytes, &end)
        }
        separate()
        if end > 1 { end -= 1 }
        bytes[end] = UInt8(ascii: "]")
        self.bytes.append(contentsOf: text[...end])
    }

    /// A vector with numbers that unit vectors do not have.
    private mutating func vectorAtLength(_ values: [Float]) {
        beginArray()
        for value in values { raw(value.isFinite ? value.description : "0") }
        endArray()
    }

    /// Writes a number below ten and a comma: `0.12345,` is a word of eight bytes, whose digits come two by two.
    private static func writeFixed(_ value: Float, to text: inout MutableSpan<UInt8>, _ end: inout Int) {
        // Half away from zero; the range was checked.
        let rounded = UInt64(abs(Double(value)) * 1e5 + 0.5)
        if value < 0 {
            text[end] = UInt8(ascii: "-")
            end += 1
        }
        let whole = rounded / 100_000
        let decimals = rounded - whole * 100_000
        let first = decimals / 10_000
        let middle = decimals / 100 - first * 100
        let last = decimals % 100
        var word = UInt64(0x2C30_3030_3030_2E30)
        word &+= whole | first << 16 | pair(middle) << 24 | pair(last) << 40
        var bytes = unsafe text.mutableBytes
        bytes.storeBytes(of: word.littleEndian, toByteOffset: end, as: UInt64.self)
        end += 8
    }

    /// The two digits of a number below a hundred, the first in the lower byte.
    private static func pair(_ value: UInt64) -> UInt64 {
        let tens = value / 10
        return tens | (value - tens * 10) << 8
    }

    // MARK: Quoting

    private mutating func quote(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0x0A: bytes.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "n")])
            case 0x0D: bytes.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "r")])
            case 0x09: bytes.append(contentsOf: [UInt8(ascii: "\\"), UInt8(ascii: "t")])
            case 0..<0x20:
                let hex = String(byte, radix: 16)
                bytes.append(contentsOf: "\\u00\(hex.count == 1 ? "0" : "")\(hex)".utf8)
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}

extension JSON {
    /// The shortest JSON text of this value.
    public var encoded: [UInt8] {
        var writer = JSONWriter()
        writer.json(self)
        return writer.bytes
    }

    var encodedText: String { String(decoding: encoded, as: UTF8.self) }
}

extension JSONObject {
    /// The shortest JSON text of this object.
    public var encoded: [UInt8] { JSON.object(self).encoded }

    var encodedText: String { JSON.object(self).encodedText }
}
