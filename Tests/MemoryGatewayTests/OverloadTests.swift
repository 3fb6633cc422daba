import HTTPTypes
import Hummingbird
import MemoryTestSupport
import NIOCore
import Testing

@testable import MemoryCore
@testable import MemoryGateway

private let api = "/api/v1/memory"

/// What is too much, too large or too deep, at the routes.
@Suite("Overload")
struct OverloadTests {
    @Test("A recall filter has at most 32 members", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func filters(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            for (count, status) in [(32, 200), (33, 400)] {
                let metadata = "{" + (0..<count).map { "\"k\($0)\": 1" }.joined(separator: ",") + "}"
                let reply = try await gateway.post(
                    api + "/recall",
                    "{\"query\": \"x\", \"client_id\": \(gateway.world.client), \"metadata\": \(metadata)}")
                #expect(reply.status == status)
                if status == 400 { #expect(reply.json["field"] == "metadata") }
            }
        }
    }

    @Test(
        "NUL is refused with the field that holds it, and in an item of a batch that item fails alone",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func nul(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let client = gateway.world.client
            for (field, text) in [
                ("content", #""content": "a\u0000b""#), ("tags", #""content": "x", "tags": ["a\u0000"]"#),
                ("metadata", #""content": "x", "metadata": {"a": [{"b\u0000": 1}]}"#),
                ("session_id", #""content": "x", "session_id": "\u0000""#),
                ("nobody", #""content": "x", "nobody": "\u0000""#), ("ab", #""content": "x", "a\u0000b": 1"#),
            ] {
                let reply = try await gateway.post(api + "/remember", "{\"client_id\": \(client), \(text)}")
                #expect(reply.status == 400 && reply.json["code"] == "invalid_request", "\(text)")
                #expect(reply.json["field"]?.string == field, "\(text)")
            }
            let recall = try await gateway.post(api + "/recall", "{\"client_id\": \(client), \"query\": \"\\u0000\"}")
            #expect(recall.status == 400 && recall.json["field"] == "query")
            let items = [#""good""#, #""bad\u0000""#, #""good too", "metadata": {"a": "\u0000"}"#, #""also good""#]
            let batch = try await gateway.post(
                api + "/remember/batch",
                "{\"memories\": ["
                    + items.map { "{\"client_id\": \(client), \"content\": \($0)}" }.joined(separator: ",") + "]}")
            #expect(batch.status == 207)
            let results = try #require(batch.json["results"]?.array)
            #expect(results.map { $0["memory_id"] != nil } == [true, false, false, true])
            #expect(results.map { $0["field"]?.string } == [nil, "content", "metadata", nil])
            let elsewhere = try await gateway.post(
                api + "/remember/batch", "{\"memories\": [], \"note\": \"\\u0000\"}")
            #expect(elsewhere.status == 400 && elsewhere.json["field"] == "note")
        }
    }

    private var onePlace: GatewayConfiguration {
        var configuration = GatewayConfiguration()
        configuration.admission.places = 1
        configuration.admission.maxWaiting = 0
        return configuration
    }

    @Test(
        "Beyond what can be done a request is refused as overloaded, with Retry-After and what became of it; health and metrics answer",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func overloaded(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores, configuration: onePlace) { gateway async throws in
            let client = gateway.world.client
            let memory: JSON = ["client_id": .int(Int64(client)), "content": "x"]
            // Whoever is first takes the one place; a writer waits for the database, so others come in the meantime.
            let replies = try await withThrowingTaskGroup(of: TestGateway.Reply.self) { group in
                for _ in 0..<200 { group.addTask { try await gateway.post(api + "/remember", memory) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(Set(replies.map(\.status)) == [200, 503])
            for reply in replies where reply.status == 503 {
                #expect(reply.json["code"] == "overloaded" && reply.json["outcome"] == "not_stored")
                #expect(reply.headers[.retryAfter] == "1")
            }
            #expect(try await gateway.post(api + "/remember", memory).status == 200, "the place was given back")
            let reads = try await withThrowingTaskGroup(of: TestGateway.Reply.self) { group in
                for number in 0..<200 {
                    group.addTask {
                        try await gateway.get(api + "/recall?query=q\(number)&client_id=\(client)")
                    }
                    group.addTask { try await gateway.get("/health/live") }
                    group.addTask { try await gateway.get("/metrics") }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            let refused = reads.filter { $0.status == 503 }
            #expect(!refused.isEmpty && refused.allSatisfy { $0.json["code"] == "overloaded" })
            #expect(refused.allSatisfy { $0.json["outcome"] == nil }, "a read stores nothing anyway")
            #expect(reads.count { $0.status == 200 } >= 401)
            let metrics = try await gateway.get("/metrics").text
            #expect(metrics.contains("memory_gateway_overloaded_total{reason=\"requests\"}"))
        }
    }

    @Test(
        "Bodies beyond their budget are refused as overloaded, small ones go on, and the budget comes back",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func bodies(_ stores: StoreSet) async throws {
        var configuration = GatewayConfiguration()
        configuration.maxBodyBytes = 4 << 20
        try await TestGateway.with(stores, configuration: configuration) { gateway async throws in
            let client = gateway.world.client
            func batch(_ filler: String) -> String {
                "{\"memories\": [{\"client_id\": \(client), \"content\": \"x\"}], \"filler\": \(filler)}"
            }
            // Three times its size, in three quarters of the budget.
            let large = String(repeating: "x", count: 900_000)
            #expect(try await gateway.post(api + "/remember/batch", batch("\"\(large)\"")).status == 200)
            let tooLarge = try await gateway.post(api + "/remember/batch", batch("\"\(large + large)\""))
            #expect(tooLarge.status == 503 && tooLarge.json["code"] == "overloaded")
            #expect(tooLarge.json["outcome"] == "not_stored" && tooLarge.headers[.retryAfter] == "1")
            // Of half the size, but large when it is built.
            let heavy = "[" + Array(repeating: "[[[]]]", count: 60_000).joined(separator: ",") + "]"
            let refused = try await gateway.post(api + "/remember/batch", batch(heavy))
            #expect(refused.status == 503 && refused.json["code"] == "overloaded")
            for number in 0..<8 {
                // What a request took is given back when it is let go, which may be a moment after its answer.
                try await gateway.world.eventually("the budget comes back, time \(number)") {
                    try await gateway.post(api + "/remember/batch", batch("\"\(large)\"")).status == 200
                }
            }
        }
    }

    @Test("Who follows the events holds no place", .timeLimit(.minutes(5)))
    func follower() async throws {
        try await TestGateway.with(.embedded, configuration: onePlace) { gateway async throws in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { _ = try? await gateway.send(.get, api + "/events/stream") }
                try await gateway.world.eventually("it follows") { gateway.memory.signals.followers == 1 }
                for number in 0..<3 { #expect(try await gateway.remember("while it follows \(number)") > 0) }
                group.cancelAll()
            }
        }
    }

    @Test("A body that does not come holds its room no longer than it may", .timeLimit(.minutes(1)))
    func stalledBody() async throws {
        let budget = BodyBudget(bytes: 8 << 20)
        let reading = BodyReading(budget: budget, patience: .milliseconds(1))
        let (parts, source) = AsyncStream.makeStream(of: ByteBuffer.self)
        source.yield(ByteBuffer(bytes: [UInt8](repeating: 0x20, count: 100_000)))
        let request = Request(
            head: HTTPRequest(
                method: .post, scheme: "http", authority: "test", path: "/",
                headerFields: [.contentType: "application/json", .contentLength: "200000"]),
            body: RequestBody(asyncSequence: parts))
        let error = await #expect(throws: (any Error).self) { try await reading.bytes(request, maxBytes: 1 << 20) }
        #expect((error as? any HTTPResponseError)?.status == .requestTimeout)
        #expect(budget.usedBytes == 0)
        source.finish()
    }
}
