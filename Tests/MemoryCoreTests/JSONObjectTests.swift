import Testing

@testable import MemoryCore

/// What an object costs does not depend on who sends it.
@Suite("JSON objects and what they cost")
struct JSONObjectTests {
    private func parse(_ text: String) throws -> JSON { try JSON.parse(Array(text.utf8)) }

    @Test(
        "Among 100,000 members each is found, and another such object is compared, within the minute",
        .timeLimit(.minutes(1)))
    func manyMembers() throws {
        let text = "{" + (0..<100_000).map { "\"key \($0)\": \($0)" }.joined(separator: ",") + "}"
        let object = try #require(try parse(text).object)
        for number in 0..<100_000 { #expect(object["key \(number)"]?.int == Int64(number)) }
        var other = JSONObject()
        for number in (0..<100_000).reversed() { other["key \(number)"] = .int(Int64(number)) }
        #expect(object == other)
    }

    @Test(
        "Keys that are all canonically equivalent are told apart, within the minute", .timeLimit(.minutes(1)))
    func equivalentKeys() throws {
        // Each é in one of two forms: 2^14 keys that String calls equal.
        let keys = (0..<16_384).map { number in
            (0..<14).map { number >> $0 & 1 == 0 ? "\u{e9}" : "e\u{301}" }.joined()
        }
        let text = "{" + keys.enumerated().map { "\"\($1)\": \($0)" }.joined(separator: ",") + "}"
        let object = try #require(try parse(text).object)
        for (number, key) in keys.enumerated() { #expect(object[key]?.int == Int64(number)) }
    }

    @Test("Members come and go as in a list of pairs, few or many", arguments: 0..<50)
    func likeAList(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var object = JSONObject()
        var list: [(key: String, value: Int64)] = []
        for step in 0..<300 {
            let key = "k\(Int.random(in: 0..<40, using: &generator))"
            let value = Int64(step)
            let place = list.firstIndex { $0.key == key }
            if Bool.random(using: &generator) || list.count < 10 {
                object[key] = .int(value)
                if let place { list[place].value = value } else { list.append((key, value)) }
            } else {
                object[key] = nil
                if let place { list.remove(at: place) }
            }
            #expect(object.members.map(\.key) == list.map(\.key))
            #expect(object.members.map(\.value.int) == list.map(\.value))
            #expect(
                (0..<40).allSatisfy { number in
                    object["k\(number)"]?.int == list.first { $0.key == "k\(number)" }?.value
                })
        }
    }

    @Test("Repeated keys are refused at 16, 17 and 40 members", arguments: [2, 16, 17, 18, 40])
    func repeated(_ count: Int) throws {
        let keys = (0..<count - 1).map { "k\($0)" }
        for twice in [0, (count - 1) / 2, count - 2] {
            let members = (keys + [keys[twice]]).map { "\"\($0)\": 1" }
            #expect(throws: JSON.ParseError.self) { try parse("{\(members.joined(separator: ","))}") }
        }
        _ = try parse("{\(keys.map { "\"\($0)\": 1" }.joined(separator: ","))}")
    }

    @Test("A text holds 1,048,576 values and no more, the largest batch of embeddings among them")
    func values() throws {
        func numbers(_ count: Int) -> [UInt8] {
            [UInt8(ascii: "[")]
                + Array(repeatElement([UInt8(ascii: "0"), UInt8(ascii: ",")], count: count - 1).joined())
                + [UInt8(ascii: "0"), UInt8(ascii: "]")]
        }
        #expect(try JSON.parse(numbers((1 << 20) - 1)).array?.count == (1 << 20) - 1)
        #expect(throws: JSON.ParseError.self) { try JSON.parse(numbers(1 << 20)) }
        let embedding = "[" + Array(repeating: "0.123", count: Limits.dimensions).joined(separator: ",") + "]"
        let item = "{\"client_id\": 1, \"content\": \"x\", \"embedding\": \(embedding)}"
        let batch = "{\"memories\": [" + Array(repeating: item, count: Limits.batch).joined(separator: ",") + "]}"
        #expect(try MemoryDraft.batch(JSONObject(request: Array(batch.utf8))).count == Limits.batch)
    }

    @Test(
        "What is built beyond a body's own size is asked for, and refused when there is no room",
        arguments: [
            "[" + Array(repeating: "[[[[0]]]]", count: 50_000).joined(separator: ",") + "]",
            "[" + Array(repeating: "{\"a\":{}}", count: 50_000).joined(separator: ",") + "]",
            "[" + Array(repeating: "0", count: 200_000).joined(separator: ",") + "]",
        ])
    func room(_ text: String) throws {
        var asked = 0
        let limits = JSON.ParseLimits(reserve: { bytes in
            asked += bytes
            return true
        })
        _ = try JSON.parse(Array(text.utf8), limits: limits)
        // A value takes 24 bytes wherever it stands.
        #expect(asked >= 3 << 20)
        var left = asked / 2
        let short = JSON.ParseLimits(reserve: { bytes in
            left -= bytes
            return left >= 0
        })
        let error = #expect(throws: JSON.ParseError.self) { try JSON.parse(Array(text.utf8), limits: short) }
        #expect(error?.isOutOfRoom == true)
        let refusal = #expect(throws: MemoryError.self) {
            try JSONObject(request: Array("{\"a\": \(text)}".utf8), reserve: { _ in false })
        }
        #expect(refusal?.code == .overloaded)
    }

    @Test("What is built of plain text takes no more than the text, and asks for nothing")
    func plain() throws {
        let body = "{\"content\": \"" + String(repeating: "x", count: 1 << 20) + "\"}"
        var asked = 0
        _ = try JSONObject(
            request: Array(body.utf8),
            reserve: { bytes in
                asked += bytes
                return true
            })
        #expect(asked <= 1 << 18)
    }
}
