import Foundation
import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Embedded stores")
struct EmbeddedTests {
    private var soon: Deadline { .after(.seconds(10)) }

    // MARK: The file

    @Test(
        "A second user of a file is refused, with the file's name, until the first has closed it",
        .timeLimit(.minutes(5)))
    func locked() async throws {
        try await TestWorld.with(.embedded) { world async throws in
            let path = world.configuration.embedded.path
            try await world.withMemory { memory async throws in
                try await memory.remember("mine", client: 1)
                let error = await #expect(throws: MemoryError.self) { try await Memory.open(world.configuration) }
                #expect(error?.code == .configuration)
                #expect(error?.message.contains(path) == true)
            }
            try await world.withMemory { memory async throws in
                #expect(try await memory.recall("mine", client: 1).count == 1)
            }
        }
    }

    @Test(
        "A damaged file is refused, with its name, and left as it is", .timeLimit(.minutes(5)),
        arguments: [0, 30, 4096])
    func damaged(_ offset: Int) async throws {
        try await TestWorld.with(.embedded) { world async throws in
            try await world.withMemory { memory async throws in
                for number in 0..<50 { try await memory.remember("memory number \(number)", client: 1) }
            }
            let url = URL(fileURLWithPath: world.configuration.embedded.path)
            var bytes = try Data(contentsOf: url)
            for index in offset..<offset + 2000 { bytes[index] = 0xA5 }
            try bytes.write(to: url)
            let error = await #expect(throws: MemoryError.self) { try await Memory.open(world.configuration) }
            #expect(error?.code == .configuration)
            #expect(error?.message.contains(url.path) == true)
            #expect(try Data(contentsOf: url) == bytes)
        }
    }

    @Test("Commits are on disk before they are answered", .timeLimit(.minutes(5)))
    func durable() async throws {
        try await TestWorld.with(.embedded) { world async throws in
            try await world.withMemory { memory async throws in
                #expect(try await world.execute("PRAGMA synchronous") == [["2"]])
                #expect(try await world.execute("PRAGMA journal_mode") == [["wal"]])
                try await memory.remember("x", client: 1)
                #expect(try await world.execute("PRAGMA integrity_check") == [["ok"]])
            }
        }
    }

    @Test("Without the embedding provider, full text answers", .timeLimit(.minutes(5)))
    func fullText() async throws {
        let isUp = Shared(false)
        try await StubServer.with(answering: { _ in
            isUp.value
                ? StubServer.Answer(200, #"{"data": [{"index": 0, "embedding": [1, 0]}]}"#) : StubServer.Answer(503, "")
        }) { url, _ in
            let settings = EmbeddingsConfiguration(url: url, model: "stub")
            try await TestWorld.with(.embedded, configure: { $0.embeddings = settings }) { world async throws in
                try await world.withMemory { memory async throws in
                    let receipt = try await memory.remember("She was painting sunrises", client: 1)
                    try await memory.remember("Nobody painted anything", client: 2)
                    #expect(receipt.failed == [.embeddedVectors])
                    for query in ["who paints a sunrise?", "\" OR paint* NEAR( -sunrise"] {
                        let answer = try await memory.recall(RecallRequest(query: query, clientID: 1))
                        #expect(answer.isDegraded && answer.hits.map(\.record.id) == [receipt.memoryID])
                    }
                    isUp.value = true
                    try await world.eventually("the memory is indexed") {
                        try await !memory.recall(RecallRequest(query: "sunrise", clientID: 1)).isDegraded
                    }
                }
            }
        }
    }

    @Test("Vectors beyond the cache's limit are found all the same", .timeLimit(.minutes(5)))
    func smallCache() async throws {
        try await TestWorld.with(.embedded, configure: { $0.embedded.maxVectorBytes = 10_000 }) { world async throws in
            try await world.withMemory { memory async throws in
                _ = try await memory.remember(
                    (0..<200).map { MemoryDraft(clientID: 1, content: "subject\($0) of many") })
                for number in [0, 77, 199] {
                    var request = RecallRequest(query: "subject\(number)", clientID: 1)
                    request.mode = .dense
                    #expect(try await memory.recall(request).hits.first?.record.content == "subject\(number) of many")
                }
            }
        }
    }

    // MARK: Mixing

    // An embedded file counts its ids from 1, which are other tests' on the shared vector server: that mix has its own.
    @Test("Each store is embedded or a server on its own", .timeLimit(.minutes(5)), arguments: 0..<8)
    func mixed(_ mix: Int) async throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("mixed-\(UUID().uuidString)/m.db").path
        try await TestWorld.with(
            own: mix & 3 == 1 ? [.qdrant] : [],
            configure: { settings in
                settings.records = mix & 1 == 0 ? .server : .embedded
                settings.vectors = mix & 2 == 0 ? .server : .embedded
                settings.shortTerm = mix & 4 == 0 ? .server : .embedded
                settings.embedded.path = path
            }
        ) { world async throws in
            try await world.withMemory { memory async throws in
                let receipt = try await memory.remember("Tea is at four", client: world.client)
                let expected: [MemoryError.Store] = [
                    mix & 1 == 0 ? .postgres : .sqlite, mix & 2 == 0 ? .qdrant : .embeddedVectors,
                    mix & 4 == 0 ? .valkey : .memoryCache,
                ]
                #expect(receipt.storedIn == expected)
                #expect(await memory.health().dependencies.map(\.store) == expected)
                let request = RecallRequest(query: "when is tea?", clientID: world.client)
                #expect(try await memory.recall(request).hits.map(\.record.id) == [receipt.memoryID])
                try await memory.delete(receipt.memoryID, client: world.client)
                #expect(try await memory.recall(request).count == 0)
            }
        }
        if mix & 3 != 0 {
            try FileManager.default.removeItem(atPath: URL(fileURLWithPath: path).deletingLastPathComponent().path)
        }
    }

    // MARK: Vectors

    @Test("Compact vectors agree with a plain search, through sets, removals and replacements", arguments: 0..<10)
    func compactVectors(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        func vector(_ width: Int) -> [Float] {
            // Half of them are mostly zeros, and kept in another form.
            let isSparse = Bool.random(using: &generator)
            let values = (0..<width).map { place in
                isSparse && place % 9 != 0 ? 0 : Float.random(in: -1...1, using: &generator)
            }
            let norm = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
            return values.map { $0 / norm } + [Float](repeating: 0, count: 1536 - width)
        }
        var compact = CompactVectors()
        var plain: [Int64: [Float]] = [:]
        for _ in 0..<700 {
            let id = Int64.random(in: 0..<400, using: &generator)
            if Int.random(in: 0..<4, using: &generator) == 0 {
                compact.remove(id)
                plain[id] = nil
            } else {
                let value = vector([1, 7, 384, 1536].randomElement(using: &generator) ?? 1)
                compact.set(id, CompactVectors.encode(value))
                plain[id] = value
            }
        }
        #expect(compact.count == plain.count)
        let query = (0..<1536).map { _ in Float.random(in: -0.04...0.04, using: &generator) }
        let found = compact.nearest(to: query, limit: 1000) { $0 % 3 != 0 }
        let expected = plain.filter { $0.key % 3 != 0 }.mapValues { value in
            zip(value, query).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        }
        #expect(found.count == expected.count)
        for (id, score) in found { #expect(abs(score - (expected[id] ?? 9)) < 0.004) }
        #expect(found.map(\.score) == found.map(\.score).sorted(by: >))
    }

    @Test("The best of many scores are kept, in order", arguments: 0..<10)
    func bestScores(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let scores = (0..<500).map { (id: Int64($0), score: Double(Int.random(in: 0..<300, using: &generator))) }
        var best = BestScores(limit: 20)
        for (id, score) in scores { best.offer(id, score) }
        #expect(best.sorted.map(\.score) == Array(scores.map(\.score).sorted(by: >).prefix(20)))
    }

    // MARK: The cache

    private func entry(_ key: String, _ count: Int, life: Duration = .seconds(60)) -> ShortTermEntry {
        ShortTermEntry(key: key, value: Array(repeating: 1, count: count), timeToLive: life)
    }

    @Test("The embedded cache expires, keeps what is only to be made, and removes", .timeLimit(.minutes(5)))
    func cache() async throws {
        let cache = EmbeddedCache(maxBytes: 1 << 20)
        try await cache.set([entry("a", 1), entry("b", 2), entry("gone", 1, life: .zero)], deadline: soon)
        #expect(try await cache.get(["a", "gone", "none"], deadline: soon).values.map { $0?.count } == [1, nil, nil])
        var once = entry("a", 5)
        once.onlyIfAbsent = true
        try await cache.replace(removing: ["b"], with: [once], publishing: [], deadline: soon)
        #expect(try await cache.get(["a", "b"], deadline: soon).values.map { $0?.count } == [1, nil])
    }

    @Test("The embedded cache stays within its bytes, and what is used stays longest", .timeLimit(.minutes(5)))
    func cacheLimit() async throws {
        let cache = EmbeddedCache(maxBytes: 100_000)
        try await cache.set([entry("hot", 10)], deadline: soon)
        for number in 0..<1000 {
            try await cache.set([entry("k\(number)", 1000)], deadline: soon)
            #expect(try await cache.get(["hot"], deadline: soon).values[0] != nil)
        }
        let kept = try await cache.get((0..<1000).map { "k\($0)" }, deadline: soon).values.count { $0 != nil }
        #expect((60..<100).contains(kept))
        try await cache.set([entry("huge", 200_000)], deadline: soon)
        #expect(try await cache.get(["huge"], deadline: soon).values == [nil])
    }
}
