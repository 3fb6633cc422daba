import HTTPTypes
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

private let remember = "/api/v1/memory/remember"

/// Hostile payloads: rows 52 to 59 of the fault catalogue, at the routes that take the most.
@Suite("Payloads")
struct PayloadTests {
    private func body(_ client: Int, _ fields: String) -> String { "{\"client_id\": \(client), \(fields)}" }

    @Test("52: depth, width and length have limits", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func depth(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            func nested(_ depth: Int) -> String {
                String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
            }
            // metadata itself is the second level.
            let deepest = try await gateway.post(
                remember, body(client, "\"content\": \"x\", \"metadata\": {\"a\": \(nested(30))}"))
            #expect(deepest.status == 200)
            for depth in [31, 1000, 100_000, 500_000] {
                let reply = try await gateway.post(
                    remember, body(client, "\"content\": \"x\", \"metadata\": {\"a\": \(nested(depth))}"))
                #expect(reply.status == 400, "\(depth)")
            }
            let keys = (0..<50_000).map { "\"k\($0)\": 1" }.joined(separator: ",")
            let wide = try await gateway.post(remember, body(client, "\"content\": \"x\", \"metadata\": {\(keys)}"))
            #expect(wide.status == 400 && wide.json["field"] == "metadata")
            let long = String(repeating: "x", count: 900_000)
            #expect(try await gateway.post(remember, body(client, "\"content\": \"\(long)\"")).status == 413)
            let path = "/api/v1/memory/recall?query=\(long)&client_id=\(client)"
            #expect(try await gateway.get(path).status == 400)
        }
    }

    @Test(
        "53: numbers that no store keeps are refused, others come back as they went", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func numbers(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            for number in [
                "1e400", "-1e400", "1e131071", "01", "+1", "1.", ".5", "NaN", "Infinity", "0x1", "--1", "1e",
            ] {
                let reply = try await gateway.post(
                    remember, body(client, "\"content\": \"x\", \"metadata\": {\"n\": \(number)}"))
                #expect(reply.status == 400, "\(number)")
            }
            let bomb = "[" + Array(repeating: "1e300", count: 200).joined(separator: ",") + "]"
            let kept = try await gateway.post(
                remember,
                body(
                    client,
                    "\"content\": \"x\", \"metadata\": {\"n\": [0.1, -0, 1e3, 9007199254740993], \"b\": \(bomb)}"))
            let id = try #require(kept.json["memory_id"]?.int)
            let read = try await gateway.get("/api/v1/memory/\(id)?client_id=\(client)")
            #expect(read.json["metadata"]?["n"] == [0.1, 0, 1000, 9_007_199_254_740_993])
            #expect(read.text.utf8.count < 100_000)
            // Integers that are written as numbers are integers; texts and truths are not.
            #expect(try await gateway.post(remember, "{\"client_id\": \(client).0, \"content\": \"x\"}").status == 200)
            for wrong in ["\"\(client)\"", "true", "[\(client)]", "\(client).5"] {
                #expect(try await gateway.post(remember, "{\"client_id\": \(wrong), \"content\": \"x\"}").status == 400)
            }
        }
    }

    @Test(
        "54 to 56: NUL, bad UTF-8, other encodings and doubled keys are refused everywhere", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func texts(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            for fields in [
                #""content": "a\u0000""#, #""content": "x", "tags": ["\u0000"]"#,
                #""content": "x", "metadata": {"\u0000": 1}"#,
                #""content": "x", "metadata": {"a": ["\u0000"]}"#, #""content": "x", "session_id": "\u0000""#,
                #""content": "\ud800""#, #""content": "\udc00\ud800""#, #""content": "x", "content": "y""#,
                #""content": "x", "metadata": {"a": 1, "\u0061": 2}"#, #""content": "x", "client_id": 1"#,
            ] {
                #expect(try await gateway.post(remember, body(client, fields)).status == 400, "\(fields)")
            }
            let text = body(client, "\"content\": \"x\"")
            let utf16 = Array(text.utf16).flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
            let bad: [[UInt8]] = [
                utf16, [0xFF, 0xFE] + utf16, [0xEF, 0xBB, 0xBF] + Array(text.utf8),
                Array("{\"client_id\": \(client), \"content\": \"".utf8) + [0xC0, 0x80] + Array("\"}".utf8),
                Array("{\"client_id\": \(client), \"content\": \"".utf8) + [0xED, 0xA0, 0x80] + Array("\"}".utf8),
            ]
            for bytes in bad {
                #expect(try await gateway.send(.post, remember, body: bytes).status == 400)
            }
            for path in ["graph/nodes/%00", "graph/nodes/%ff", "templates/%c0%80", "sessions/%00/state?client_id=1"] {
                #expect(try await gateway.get("/api/v1/memory/\(path)").status == 400, "\(path)")
            }
        }
    }

    @Test(
        "57: texts are kept byte for byte, and identifiers compared so", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func unicode(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            let texts = [
                "caf\u{E9}", "cafe\u{301}", "👩‍👩‍👧‍👦", "\u{202E}abc", "а", "Z" + String(repeating: "\u{301}", count: 20_000),
                "e\u{200B}x",
                "line\nbreak\ttab\r\u{1B}[31m",
            ]
            for text in texts {
                let stored = try await gateway.post(
                    remember,
                    [
                        "client_id": .int(Int64(client)), "content": .string(text),
                        "tags": [.string(String(text.unicodeScalars.prefix(8)))],
                    ])
                let id = try #require(stored.json["memory_id"]?.int)
                let read = try await gateway.get("/api/v1/memory/\(id)?client_id=\(client)")
                #expect(read.json["content"]?.string?.utf8.elementsEqual(text.utf8) == true)
            }
            for (tag, other) in [("caf%C3%A9", "cafe%CC%81"), ("cafe%CC%81", "caf%C3%A9")] {
                let found = try await gateway.get(
                    "/api/v1/memory/recall?query=caf&client_id=\(client)&k=100&tags=\(tag)")
                #expect(found.json["result_count"] == 1, "\(tag), not \(other)")
            }
        }
    }

    @Test(
        "58 and 59: whatever a question or a filter says is data", .timeLimit(.minutes(5)), arguments: StoreSet.allCases
    )
    func injection(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            _ = try await gateway.remember("the secret of another client", client: client + 1)
            let hostile = [
                "\"", "'", "'; DROP TABLE events; --", "foo AND", "NEAR(", "nope:foo", "-foo", "(", "NOT foo",
                "a | b & !c",
                "x:*", "\\", "%", "_", "*", "\r\nDEL mg", "{\"client_id\": 2}", "$1", "${jndi:ldap://x}", "__proto__",
                String(repeating: "word ", count: 1600),
            ]
            for text in hostile {
                for mode in ["hybrid", "dense", "keyword"] {
                    let reply = try await gateway.post(
                        "/api/v1/memory/recall",
                        [
                            "client_id": .int(Int64(client)), "query": .string(text), "mode": .string(mode),
                            "session_id": .string(String(text.prefix(200))),
                            "tags": [.string(String(text.prefix(200)))],
                            "metadata": [
                                text.isEmpty ? "a" : String(text.prefix(200)): .string(text),
                                "client_id": .int(Int64(client + 1)),
                            ],
                        ])
                    #expect(reply.status == 200 && reply.json["result_count"] == 0, "\(text)")
                }
                let forged = try await gateway.post(
                    remember,
                    [
                        "client_id": .int(Int64(client)), "content": .string("x " + text.prefix(1000)),
                        "metadata": [
                            "client_id": .int(Int64(client + 1)), "event_id": 1, "must": [],
                            "expires_at": "2001-01-01T00:00:00Z",
                        ],
                    ])
                #expect(forged.status == 200, "\(text)")
            }
            let theirs = try await gateway.get("/api/v1/memory/recall?query=x+secret&client_id=\(client + 1)&k=100")
            #expect(theirs.json["result_count"] == 1)
            #expect(try await gateway.world.execute("SELECT count(*) FROM events") == [["\(hostile.count + 1)"]])
            // Full text, which answers when vectors cannot, takes the same texts.
            for text in hostile {
                let terms = Tokenizer.searchWords(text)
                guard !terms.isEmpty else { continue }
                _ = try await gateway.memory.read { session throws(MemoryError) in
                    try EventRepository(session: session).search(
                        terms, clientID: client, filter: RecallFilter(), limit: 5)
                }
            }
        }
    }
}
