/// Walks through a JSON text and takes out what is wanted, without building the rest: for large answers of which little is
/// needed. What it takes out is checked as ``JSON/parse(_:maxDepth:)`` checks it; what it skips need only be balanced.
struct JSONScanner {
    private let bytes: [UInt8]
    private(set) var position = 0
    /// How deep a value that is skipped may be nested.
    private static let maxDepth = 64

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private func failure(_ reason: String) -> JSON.ParseError { JSON.ParseError(reason: reason, offset: position) }

    private mutating func next() -> UInt8 {
        while position < bytes.count {
            let byte = bytes[position]
            guard byte == 0x20 || (0x09...0x0D).contains(byte) else { return byte }
            position += 1
        }
        return 0
    }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard next() == UInt8(ascii: scalar) else { return false }
        position += 1
        return true
    }

    // MARK: Structure

    /// Reads an object: `body` gets each key, and takes its value or leaves it.
    mutating func members(
        _ body: (inout JSONScanner, _ key: ArraySlice<UInt8>) throws(JSON.ParseError) -> Void
    ) throws(JSON.ParseError) {
        guard take("{") else { throw failure("an object is missing") }
        if take("}") { return }
        while true {
            let key = try rawString()
            guard take(":") else { throw failure("a colon is missing") }
            let start = position
            try body(&self, key)
            if position == start { try skip() }
            if take(",") { continue }
            guard take("}") else { throw failure("a comma or } is missing") }
            return
        }
    }

    /// Reads an array: `body` takes each element, or leaves it.
    mutating func elements(
        _ body: (inout JSONScanner) throws(JSON.ParseError) -> Void
    ) throws(JSON.ParseError) {
        guard take("[") else { throw failure("an array is missing") }
        if take("]") { return }
        while true {
            let start = position
            try body(&self)
            if position == start { try skip() }
            if take(",") { continue }
            guard take("]") else { throw failure("a comma or ] is missing") }
            return
        }
    }

    /// Steps over one value, whatever it is.
    mutating func skip() throws(JSON.ParseError) {
        var depth = 0
        repeat {
            switch next() {
            case UInt8(ascii: "\""): _ = try rawString()
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                guard depth <= Self.maxDepth else { throw failure("nested too deep") }
                position += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                guard depth >= 0 else { throw failure("a value is missing") }
                position += 1
            case UInt8(ascii: ","), UInt8(ascii: ":"):
                guard depth > 0 else { throw failure("a value is missing") }
                position += 1
            case 0: throw failure("the text ends too early")
            default: skipWord()
            }
        } while depth > 0
    }

    private mutating func skipWord() {
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: ","), UInt8(ascii: "}"), UInt8(ascii: "]"), 0x20, 0x09...0x0D: return
            default: position += 1
            }
        }
    }

    // MARK: Values

    /// The bytes between the quotes, escapes and all.
    private mutating func rawString() throws(JSON.ParseError) -> ArraySlice<UInt8> {
        guard take("\"") else { throw failure("a string is missing") }
        let start = position
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                position += 1
                return bytes[start..<position - 1]
            case UInt8(ascii: "\\"): position += 2
            default: position += 1
            }
        }
        throw failure("a string does not end")
    }

    /// A string; nil for any other value.
    mutating func string() throws(JSON.ParseError) -> String? {
        guard next() == UInt8(ascii: "\"") else {
            try skip()
            return nil
        }
        let raw = try rawString()
        guard raw.contains(UInt8(ascii: "\\")) else {
            guard let text = String(validating: raw, as: UTF8.self) else { throw failure("bytes that are not UTF-8") }
            return text
        }
        return try JSON.parse([UInt8(ascii: "\"")] + raw + [UInt8(ascii: "\"")]).string
    }

    /// A finite number; nil for any other value.
    mutating func number() throws(JSON.ParseError) -> Double? {
        let first = next()
        let isNumber = first == UInt8(ascii: "-") || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first)
        let start = position
        try skip()
        guard isNumber else { return nil }
        return Self.number(bytes[start..<position])
    }

    /// An integer that 64 bits hold; nil for any other value.
    mutating func integer() throws(JSON.ParseError) -> Int64? {
        let first = next()
        guard first == UInt8(ascii: "-") || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
            try skip()
            return nil
        }
        let start = position
        try skip()
        var value: Int64 = 0
        for byte in bytes[start..<position].drop(while: { $0 == UInt8(ascii: "-") }) {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            guard !overflow, product <= Int64.max - 9 else { return nil }
            value = product + Int64(byte - UInt8(ascii: "0"))
        }
        return first == UInt8(ascii: "-") ? -value : value
    }

    /// Up to 15 digits and a point are exact as an integer divided by a power of ten (Clinger, "How to read floating point
    /// numbers accurately", 1990); what is longer, or has an exponent, goes the long way.
    private static func number(_ text: ArraySlice<UInt8>) -> Double? {
        var mantissa: Int64 = 0
        var (digits, decimals, hasPoint) = (0, 0, false)
        for byte in text {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9") where digits < 15:
                mantissa = mantissa * 10 + Int64(byte - UInt8(ascii: "0"))
                digits += mantissa == 0 ? 0 : 1
                decimals += hasPoint ? 1 : 0
            case UInt8(ascii: ".") where !hasPoint: hasPoint = true
            case UInt8(ascii: "-") where digits == 0 && !hasPoint: continue
            default: return (try? JSON.parse(Array(text)))?.double
            }
        }
        guard decimals < powers.count else { return (try? JSON.parse(Array(text)))?.double }
        let value = Double(mantissa) / powers[decimals]
        return text.first == UInt8(ascii: "-") ? -value : value
    }

    private static let powers = (0...22).map { exponent in (0..<exponent).reduce(1.0) { value, _ in value * 10 } }
}
