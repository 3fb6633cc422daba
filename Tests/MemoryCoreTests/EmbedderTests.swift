import Foundation
import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("OpenAI-compatible embedder")
struct EmbedderTests {
    /// Asks a stub for vectors of texts.
    private func embed(
        _ texts: [String], answering answer: @escaping @Sendable (StubServer.Asked) -> StubServer.Answer,
        key: String? = nil
    ) async throws -> (results: [Result<[Float], MemoryError>], asked: [StubServer.Asked]) {
        try await StubServer.with(answering: answer) { url, stub in
            let embedder = try OpenAIEmbedder(
                EmbeddingsConfiguration(url: url + "/v1", model: "m", apiKey: key.map { Secret($0) }))
            let results = await embedder.embed(texts, deadline: .after(.seconds(10)))
            await embedder.close()
            return (results, stub.asked)
        }
    }

    private static func item(_ index: Int, _ embedding: String) -> String {
        #"{"object": "embedding", "index": \#(index), "embedding": \#(embedding)}"#
    }

    private static func data(_ items: String...) -> StubServer.Answer {
        StubServer.Answer(200, #"{"data": [\#(items.joined(separator: ","))]}"#)
    }

    private static func base64(_ values: [Float]) -> String {
        "\"\(Data(values.littleEndianBytes).base64EncodedString())\""
    }

    @Test("Floats and base64 give the same unit vector, padded to 1536", .timeLimit(.minutes(5)))
    func formats() async throws {
        for text in ["[3, 4]", Self.base64([3, 4])] {
            let (results, _) = try await embed(["a"]) { _ in Self.data(Self.item(0, text)) }
            let vector = try #require(try results.first?.get())
            #expect(vector.count == 1536)
            #expect(abs(vector[0] - 0.6) < 1e-6 && abs(vector[1] - 0.8) < 1e-6)
            #expect(vector.dropFirst(2).allSatisfy { $0 == 0 })
        }
    }

    @Test("Vectors are matched by index, not by order", .timeLimit(.minutes(5)))
    func order() async throws {
        let (results, asked) = try await embed(
            ["a", "b"],
            answering: { _ in
                Self.data(Self.item(1, "[0, 1]"), Self.item(0, "[1, 0]"))
            }, key: "sk-1")
        #expect(try results.map { try $0.get()[0] } == [1, 0])
        #expect(asked.count == 1)
        #expect(asked[0].path == "/v1/embeddings")
        #expect(asked[0].headers["authorization"] == "Bearer sk-1")
        let body = try JSON.parse(Array(asked[0].body.utf8))
        #expect(body == ["model": "m", "encoding_format": "base64", "input": ["a", "b"]])
    }

    @Test(
        "An answer that makes no sense is an error", .timeLimit(.minutes(5)),
        arguments: [
            "<html>", "{}", #"{"error": {"message": "no"}}"#, #"{"data": []}"#, #"{"data": [{"index": 0}]}"#,
            #"{"data": [{"index": 1, "embedding": [1]}]}"#, #"{"data": [{"index": 0, "embedding": []}]}"#,
            #"{"data": [{"index": 0, "embedding": [0, 0]}]}"#, #"{"data": [{"index": 0, "embedding": [null]}]}"#,
            #"{"data": [{"index": 0, "embedding": ["1"]}]}"#, #"{"data": [{"index": 0, "embedding": [1e39]}]}"#,
            #"{"data": [{"index": 0, "embedding": "AAA"}]}"#, #"{"data": [{"index": 0, "embedding": "////fw=="}]}"#,
            #"{"data": [{"index": 0.5, "embedding": [1]}]}"#, #"{"data": [{"index": 0, "embedding": "AAAAAA=="}]}"#,
        ])
    func nonsense(_ body: String) async throws {
        let (results, _) = try await embed(["a"]) { _ in StubServer.Answer(200, body) }
        #expect(results.count == 1)
        #expect(throws: MemoryError.self) { try results[0].get() }
    }

    @Test("Too many dimensions is an error of the settings that names both numbers", .timeLimit(.minutes(5)))
    func dimensions() async throws {
        let (results, _) = try await embed(["a"]) { _ in
            Self.data(Self.item(0, "[\(Array(repeating: "1", count: 3072).joined(separator: ","))]"))
        }
        let error = try #require(throws: MemoryError.self) { try results[0].get() }
        #expect(error.code == .configuration)
        #expect(error.message.contains("3072") && error.message.contains("1536"))
    }

    @Test(
        "A refusal says whether to come again, and when", .timeLimit(.minutes(5)),
        arguments: [
            (429, true), (500, true), (502, true), (401, true), (400, false), (422, false),
        ])
    func refusals(_ status: Int, _ isRetriable: Bool) async throws {
        let (results, _) = try await embed(["a"]) { _ in
            StubServer.Answer(status, #"{"error": {"message": "no"}}"#, headers: ["Retry-After": "7"])
        }
        let error = try #require(throws: MemoryError.self) { try results[0].get() }
        #expect(error.isRetriable == isRetriable)
        #expect(error.retryAfter == .seconds(7))
    }

    @Test("A text that is always refused fails alone", .timeLimit(.minutes(5)))
    func poison() async throws {
        let texts = (0..<9).map { $0 == 5 ? "poison" : "text \($0)" }
        let (results, asked) = try await embed(texts) { asked in
            guard !asked.body.contains("poison"), let input = (try? JSON.parse(Array(asked.body.utf8)))?["input"]?.array
            else { return StubServer.Answer(400, "{}") }
            let items = input.indices.map { Self.item($0, "[1, 0]") }.joined(separator: ",")
            return StubServer.Answer(200, #"{"data": [\#(items)]}"#)
        }
        #expect(results.map { (try? $0.get()) != nil } == texts.map { $0 != "poison" })
        #expect(asked.count < 12)
    }

    @Test("Redirects are not followed", .timeLimit(.minutes(5)))
    func redirects() async throws {
        let (results, asked) = try await embed(["a"]) { _ in
            StubServer.Answer(302, "", headers: ["Location": "http://169.254.169.254/"])
        }
        #expect(throws: MemoryError.self) { try results[0].get() }
        #expect(asked.count == 1)
    }

    @Test("An answer without end is cut off at its size", .timeLimit(.minutes(5)))
    func huge() async throws {
        let (results, _) = try await embed(["a"]) { _ in StubServer.Answer(200, String(repeating: " ", count: 4 << 20))
        }
        let error = try #require(throws: MemoryError.self) { try results[0].get() }
        #expect(error.code == .badReply)
    }

    @Test("A provider that is not there is unavailable, at once", .timeLimit(.minutes(5)))
    func absent() async throws {
        let embedder = try OpenAIEmbedder(EmbeddingsConfiguration(url: "http://127.0.0.1:1/v1", model: "m"))
        let results = await embedder.embed(["a", "b"], deadline: .after(.seconds(10)))
        await embedder.close()
        for result in results {
            let error = try #require(throws: MemoryError.self) { try result.get() }
            #expect(error.code == .unavailable && error.isRetriable)
        }
    }

    private static func answers(_ asked: StubServer.Asked) -> StubServer.Answer {
        let count = (try? JSON.parse(Array(asked.body.utf8)))?["input"]?.array?.count ?? 0
        let items = (0..<count).map { item($0, "[0.6, 0.8]") }.joined(separator: ",")
        return StubServer.Answer(200, #"{"data": [\#(items)]}"#)
    }

    @Test(
        "A text for which the provider answers 500 fails alone, for good, while others are served",
        .timeLimit(.minutes(5)))
    func poisonWith500() async throws {
        let many = (0..<9).map { "text \($0)" } + ["poison"]
        for texts in [["poison"], many] {
            let (results, _) = try await embed(
                texts,
                answering: { asked in
                    asked.body.contains("poison") ? StubServer.Answer(500, "NaN") : Self.answers(asked)
                })
            for (text, result) in zip(texts, results) {
                switch result {
                case .success: #expect(text != "poison")
                case .failure(let error):
                    #expect(text == "poison" && !error.isRetriable && error.driverCode == "http 500")
                }
            }
        }
    }

    @Test(
        "While the provider serves nobody, a batch is no text's fault, and costs it at most one request more",
        .timeLimit(.minutes(5)), arguments: [500, 502, 503])
    func down(_ status: Int) async throws {
        let texts = (0..<64).map { "text \($0)" }
        let (results, asked) = try await embed(texts, answering: { _ in StubServer.Answer(status, "") })
        #expect(asked.count <= 2)
        for result in results {
            let error = #expect(throws: MemoryError.self) { try result.get() }
            #expect(error?.isRetriable == true)
        }
    }

    @Test("A poisoned text does not open the breaker for the others", .timeLimit(.minutes(5)))
    func breaker() async throws {
        try await StubServer.with(answering: {
            $0.body.contains("poison") ? StubServer.Answer(500, "NaN") : Self.answers($0)
        }) { url, _ in
            let embedder = try OpenAIEmbedder(EmbeddingsConfiguration(url: url + "/v1", model: "m"))
            let start = ContinuousClock.now
            // More failures in a row, over a longer time, than a breaker forgives.
            var count = 0
            while count < 20 || ContinuousClock.now - start < .milliseconds(600) {
                let result = await embedder.embed(["poison"], deadline: .after(.seconds(10)))
                let error = #expect(throws: MemoryError.self) { try result[0].get() }
                #expect(error?.driverCode == "http 500")
                count += 1
            }
            await embedder.close()
        }
    }
}
