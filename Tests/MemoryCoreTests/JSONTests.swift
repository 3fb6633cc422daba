import Testing

@testable import MemoryCore

@Suite("JSON")
struct JSONTests {
    private func parse(_ text: String) throws -> JSON { try JSON.parse(Array(text.utf8)) }

    @Test(
        "Accepted texts give their values",
        arguments: [
            (
                #"{"a": [1, -2.5, 1e3, true, false, null, "x"]}"#,
                JSON.object(["a": [1, -2.5, 1000, true, false, nil, "x"]])
            ),
            (#""\u00e9\ud83d\ude00\n\/""#, "é😀\n/"), ("9223372036854775807", .int(.max)),
            ("9223372036854775808", .double(9_223_372_036_854_775_808)), (" [ ] ", .array([])),
            ("{}", .object(JSONObject())),
            ("-0", 0),
        ])
    func accepts(_ text: String, _ expected: JSON) throws {
        #expect(try parse(text) == expected)
    }

    @Test(
        "What no store could keep unchanged is refused",
        arguments: [
            "", "{", "[1,]", "{\"a\":1,}", "01", "1.", ".5", "+1", "1e", "1e400", "-1e400", "NaN", "Infinity", "'a'",
            "\"\u{1}\"",
            #""\u0000""#, #""\ud800""#, #""\ud800\u0041""#, #""\x""#, #""\u12g4""#, "tru", "[1] 2", #"{"a":1,"a":2}"#,
            #"{"a":1,"\u0061":2}"#, "{\"a\" 1}", "\"abc", "\u{FEFF}{}",
        ])
    func refuses(_ text: String) {
        #expect(throws: JSON.ParseError.self) { try parse(text) }
    }

    @Test(
        "Bytes that are not UTF-8 are refused",
        arguments: [
            [0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22], [0x22, 0, 0x22],
            [0xFE, 0xFF, 0, 0x31], [0x31, 0, 0x32, 0],
        ] as [[UInt8]])
    func refusesBytes(_ bytes: [UInt8]) {
        #expect(throws: JSON.ParseError.self) { try JSON.parse(bytes) }
    }

    @Test("Nesting is accepted to 32 and refused beyond, at any depth")
    func depth() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        _ = try parse(nested(32))
        for depth in [33, 1000, 100_000] { #expect(throws: JSON.ParseError.self) { try parse(nested(depth)) } }
    }

    @Test("A repeated key is found among many")
    func repeatedAmongMany() {
        let members = (0..<100).map { "\"k\($0)\": 0" } + ["\"k50\": 1"]
        #expect(throws: JSON.ParseError.self) { try parse("{\(members.joined(separator: ","))}") }
    }

    @Test("Canonically equivalent keys are two keys, as in every store")
    func bytewiseKeys() throws {
        let object = try #require(try parse("{\"e\u{301}\": 1, \"\u{e9}\": 2}").object)
        #expect(object["\u{e9}"] == 2)
        #expect(object["e\u{301}"] == 1)
    }

    @Test("Encoding and parsing give back any value", arguments: 0..<200)
    func roundTrip(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let value = JSON.random(using: &generator, depth: 4)
        #expect(try JSON.parse(value.encoded) == value)
    }

    @Test("Random bytes never trap the parser", arguments: 0..<200)
    func randomBytes(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var bytes = JSON.random(using: &generator, depth: 3).encoded
        for _ in 0..<3 where !bytes.isEmpty {
            bytes[Int.random(in: bytes.indices, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
        }
        if let value = try? JSON.parse(bytes) {
            #expect((try? JSON.parse(value.encoded)) == value)
        }
    }

    @Test(
        "A vector's text keeps its numbers to five decimals; with a large one among them, to seven digits",
        arguments: [
            [0, 1, -1, 0.5, -0.000001, 0.000004, 0.000006, 0.123456789, -0.0999999, 9.99994],
            [0.123456789, 12.3456, 3.4e10, -0.0999999],
        ] as [[Float]])
    func vectorDigits(_ values: [Float]) throws {
        let parsed = try Self.read(values)
        #expect(parsed.count == values.count)
        for (parsed, value) in zip(parsed, values) {
            #expect(abs(parsed - Double(value)) <= max(5.001e-6, abs(Double(value)) * 1e-6), "\(value)")
        }
    }

    @Test("The text of a unit vector of 1536 numbers keeps its cosine to 1e-7")
    func vectorCosine() throws {
        var generator = SeededGenerator(seed: 5)
        let values = try VectorMath.normalised((0..<1536).map { _ in Float.random(in: -1...1, using: &generator) })
        let parsed = try Self.read(values)
        let dot = zip(parsed, values).reduce(0) { $0 + $1.0 * Double($1.1) }
        let squares = (
            parsed.reduce(0) { $0 + $1 * $1 }, values.reduce(0) { $0 + Double($1) * Double($1) }
        )
        #expect(abs(1 - dot / (squares.0 * squares.1).squareRoot()) < 1e-7)
    }

    private static func read(_ values: [Float]) throws -> [Double] {
        var writer = JSONWriter()
        writer.vector(values)
        return try #require(try JSON.parse(writer.bytes).array).compactMap(\.double)
    }
}

extension JSON {
    static func random(using generator: inout SeededGenerator, depth: Int) -> JSON {
        switch Int.random(in: 0..<(depth > 0 ? 8 : 6), using: &generator) {
        case 0: return .null
        case 1: return .bool(.random(using: &generator))
        case 2: return .int(.random(in: .min ... .max, using: &generator))
        case 3: return .double(.random(in: -1e300...1e300, using: &generator))
        case 4, 5:
            let scalars = (0..<Int.random(in: 0..<12, using: &generator)).compactMap { _ in
                Unicode.Scalar(UInt32.random(in: 1..<0x11_0000, using: &generator))
            }
            return .string(String(String.UnicodeScalarView(scalars)))
        case 6:
            return .array(
                (0..<Int.random(in: 0..<5, using: &generator)).map { _ in random(using: &generator, depth: depth - 1) })
        default:
            var object = JSONObject()
            for index in 0..<Int.random(in: 0..<20, using: &generator) {
                object["k\(index)\"\\\n"] = random(using: &generator, depth: depth - 1)
            }
            return .object(object)
        }
    }
}

/// SplitMix64: the same numbers for the same seed, so that a failure can be seen again.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
