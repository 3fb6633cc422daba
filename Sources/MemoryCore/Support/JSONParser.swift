extension JSON {
    /// Why a text is not acceptable JSON.
    struct ParseError: Error {
        let reason: String
        let offset: Int
        /// Whether the text may be acceptable, but is more than there is room for now.
        var isOutOfRoom = false
    }

    /// What a text may hold.
    struct ParseLimits {
        /// The number of arrays and objects around a value, at most; it bounds the stack.
        var maxDepth = 32
        /// How many values there may be in all; it bounds memory, of which a value of two bytes takes 24 and more.
        var maxValues = 1 << 20
        /// Whether strings may hold NUL, for a reader that says where it was.
        var allowsNUL = false
        /// Asks for so many more bytes of memory, before they are used; false ends the parsing. What is built takes up to
        /// twice the text's own size without asking.
        var reserve: ((Int) -> Bool)?
    }

    /// Parses one JSON text.
    ///
    /// Stricter than RFC 8259 asks, because what is accepted here must survive every store unchanged: bytes must be
    /// UTF-8, no string may hold NUL, no key may come twice, nesting ends at `maxDepth`, numbers must be finite doubles.
    static func parse(_ bytes: [UInt8], maxDepth: Int = 32) throws(ParseError) -> JSON {
        try parse(bytes, limits: ParseLimits(maxDepth: maxDepth)).value
    }

    /// Parses one JSON text within limits, and says whether a string in it holds NUL.
    static func parse(
        _ bytes: [UInt8], limits: ParseLimits
    ) throws(ParseError) -> (value: JSON, holdsNUL: Bool) {
        var parser = JSONParser(bytes: bytes, limits: limits)
        let value = try parser.document()
        return (value, parser.holdsNUL)
    }
}

private struct JSONParser {
    let bytes: [UInt8]
    let limits: JSON.ParseLimits
    var position = 0
    var holdsNUL = false
    private var values = 0
    /// How much memory what was built takes, about, and how much of it needs no asking any more.
    private var weight = 0
    private var granted: Int

    /// What an array or object takes beside its values, and a member beside its own: its key, and its place.
    private static let container = 64
    private static let member = 64
    /// What a string takes that does not fit into its value.
    private static let longString = 32

    /// How much is asked for at once.
    private static let step = 1 << 18

    init(bytes: [UInt8], limits: JSON.ParseLimits) {
        self.bytes = bytes
        self.limits = limits
        granted = max(bytes.count * 2, Self.step)
    }

    /// Counts what is about to be built.
    private mutating func count(values: Int, bytes: Int) throws(JSON.ParseError) {
        self.values += values
        guard self.values <= limits.maxValues else { throw failure("more than \(limits.maxValues) values") }
        weight += bytes
        guard weight > granted, let reserve = limits.reserve else { return }
        guard reserve(Self.step) else {
            throw JSON.ParseError(reason: "no room for its values", offset: position, isOutOfRoom: true)
        }
        granted += Self.step
    }

    mutating func document() throws(JSON.ParseError) -> JSON {
        let value = try value(depth: 0)
        skipSpace()
        guard position == bytes.count else { throw failure("more text after the value") }
        return value
    }

    func failure(_ reason: String) -> JSON.ParseError { JSON.ParseError(reason: reason, offset: position) }

    var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    mutating func skipSpace() {
        while let byte = current, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    mutating func take(_ byte: UInt8) -> Bool {
        guard current == byte else { return false }
        position += 1
        return true
    }

    mutating func value(depth: Int) throws(JSON.ParseError) -> JSON {
        skipSpace()
        try count(values: 1, bytes: MemoryLayout<JSON>.stride)
        switch current {
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            guard depth < limits.maxDepth else { throw failure("nested deeper than \(limits.maxDepth)") }
            try count(values: 0, bytes: Self.container)
            return take(UInt8(ascii: "{")) ? .object(try object(depth: depth + 1)) : .array(try array(depth: depth + 1))
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case nil: throw failure("the text ends too early")
        default: return try number()
        }
    }

    mutating func word(_ text: StaticString, _ value: JSON) throws(JSON.ParseError) -> JSON {
        let word = Array(text.description.utf8)
        guard bytes[position...].starts(with: word) else { throw failure("an unknown word") }
        position += word.count
        return value
    }

    // MARK: Arrays and objects

    mutating func array(depth: Int) throws(JSON.ParseError) -> [JSON] {
        position += 1
        var elements: [JSON] = []
        skipSpace()
        if take(UInt8(ascii: "]")) { return elements }
        while true {
            elements.append(try value(depth: depth))
            skipSpace()
            if take(UInt8(ascii: ",")) { continue }
            guard take(UInt8(ascii: "]")) else { throw failure("a comma or ] is missing") }
            return elements
        }
    }

    mutating func object(depth: Int) throws(JSON.ParseError) -> JSONObject {
        var members: [JSONObject.Member] = []
        skipSpace()
        if take(UInt8(ascii: "}")) { return JSONObject() }
        while true {
            skipSpace()
            guard current == UInt8(ascii: "\"") else { throw failure("a key is missing") }
            let key = try string()
            skipSpace()
            guard take(UInt8(ascii: ":")) else { throw failure("a colon is missing") }
            try count(values: 0, bytes: Self.member)
            members.append(JSONObject.Member(key: key, value: try value(depth: depth)))
            skipSpace()
            if take(UInt8(ascii: ",")) { continue }
            guard take(UInt8(ascii: "}")) else { throw failure("a comma or } is missing") }
            if let object = JSONObject(members: members) { return object }
            let repeated = String((JSONObject.repeatedKey(members) ?? "").prefix(64))
            throw failure("the key \(repeated.debugDescription) comes twice")
        }
    }

    // MARK: Strings

    mutating func string() throws(JSON.ParseError) -> String {
        position += 1
        let start = position
        while let byte = current {
            switch byte {
            case UInt8(ascii: "\""):
                if position - start > 15 { try count(values: 0, bytes: Self.longString + position - start) }
                let text = try utf8(bytes[start..<position])
                position += 1
                return text
            case UInt8(ascii: "\\"):
                return try escapedString(from: start)
            case 0..<0x20: throw failure("a control character in a string")
            default: position += 1
            }
        }
        throw failure("a string does not end")
    }

    func utf8(_ slice: ArraySlice<UInt8>) throws(JSON.ParseError) -> String {
        guard let text = String(validating: slice, as: UTF8.self) else { throw failure("bytes that are not UTF-8") }
        return text
    }

    /// The rest of a string in which an escape was met.
    mutating func escapedString(from start: Int) throws(JSON.ParseError) -> String {
        var text = Array(bytes[start..<position])
        while let byte = current {
            position += 1
            switch byte {
            case UInt8(ascii: "\""):
                if text.count > 15 { try count(values: 0, bytes: Self.longString + text.count) }
                return try utf8(text[...])
            case UInt8(ascii: "\\"): try escape(into: &text)
            case 0..<0x20: throw failure("a control character in a string")
            default: text.append(byte)
            }
        }
        throw failure("a string does not end")
    }

    mutating func escape(into text: inout [UInt8]) throws(JSON.ParseError) {
        let byte = current
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte ?? 0)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"): text.append(contentsOf: Array(String(try scalar()).utf8))
        default: throw failure("an unknown escape")
        }
    }

    /// The scalar of a `\u` escape, of both halves where it is a surrogate pair.
    mutating func scalar() throws(JSON.ParseError) -> Unicode.Scalar {
        let unit = try hexUnit()
        if unit == 0 {
            guard limits.allowsNUL else { throw failure("a NUL character in a string") }
            holdsNUL = true
        }
        if let scalar = Unicode.Scalar(unit) { return scalar }
        guard (0xD800..<0xDC00).contains(unit), take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else {
            throw failure("half of a surrogate pair")
        }
        let low = try hexUnit()
        guard (0xDC00..<0xE000).contains(low),
            let scalar = Unicode.Scalar(0x10000 + (UInt32(unit - 0xD800) << 10) + UInt32(low - 0xDC00))
        else { throw failure("half of a surrogate pair") }
        return scalar
    }

    mutating func hexUnit() throws(JSON.ParseError) -> UInt16 {
        var unit: UInt16 = 0
        for _ in 0..<4 {
            guard let byte = current, let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
                throw failure("an escape without four hexadecimal digits")
            }
            unit = unit << 4 | UInt16(digit)
            position += 1
        }
        return unit
    }

    // MARK: Numbers

    mutating func digits() throws(JSON.ParseError) {
        let start = position
        while let byte = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
        guard position > start else { throw failure("not a number") }
    }

    mutating func number() throws(JSON.ParseError) -> JSON {
        let start = position
        _ = take(UInt8(ascii: "-"))
        if !take(UInt8(ascii: "0")) { try digits() }
        var isInteger = true
        if take(UInt8(ascii: ".")) {
            isInteger = false
            try digits()
        }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            isInteger = false
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try digits()
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isInteger, let value = Int64(text) { return .int(value) }
        guard let value = Double(text), value.isFinite else { throw failure("a number that no finite double holds") }
        return .double(value)
    }
}
