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

    /// A vector, with six decimals: on unit vectors that keeps every cosine to 1e-6, in a third of the bytes.
    mutating func vector(_ values: [Float]) {
        // The longest number is `-999.999999,`; writing at a place costs half of what appending does.
        var text = [UInt8](repeating: 0, count: values.count * 12 + 2)
        var end = 1
        text[0] = UInt8(ascii: "[")
        for value in values {
            guard abs(value) < 1000 else { return vectorAtLength(values) }
            Self.writeFixed(value, &text, &end)
        }
        separate()
        if end > 1 { end -= 1 }
        text[end] = UInt8(ascii: "]")
        bytes.append(contentsOf: text[...end])
    }

    /// A vector with numbers that unit vectors do not have.
    private mutating func vectorAtLength(_ values: [Float]) {
        beginArray()
        for value in values { raw(value.isFinite ? value.description : "0") }
        endArray()
    }

    /// Writes a number and a comma; of the decimals no zeros at the end.
    private static func writeFixed(_ value: Float, _ text: inout [UInt8], _ end: inout Int) {
        let scaled = Double(value) * 1e6
        // Half away from zero; the range was checked.
        let micros = Int32(scaled + (scaled < 0 ? -0.5 : 0.5))
        if micros < 0 {
            text[end] = UInt8(ascii: "-")
            end += 1
        }
        let (whole, rest) = micros.magnitude.quotientAndRemainder(dividingBy: 1_000_000)
        if whole < 10 {
            text[end] = UInt8(ascii: "0") &+ UInt8(truncatingIfNeeded: whole)
            end += 1
        } else {
            for digit in String(whole).utf8 {
                text[end] = digit
                end += 1
            }
        }
        if rest > 0 {
            text[end] = UInt8(ascii: ".")
            end += 1
            var (fraction, unit) = (rest, UInt32(100_000))
            while fraction > 0 {
                let digit = fraction / unit
                text[end] = UInt8(ascii: "0") &+ UInt8(truncatingIfNeeded: digit)
                end += 1
                fraction &-= digit &* unit
                unit /= 10
            }
        }
        text[end] = UInt8(ascii: ",")
        end += 1
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
