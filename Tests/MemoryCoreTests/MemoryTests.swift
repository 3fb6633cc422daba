import Foundation
import MemoryTestSupport
import Testing

@testable import MemoryCore

/// Remember, recall, get and delete, with every store up.
@Suite("Memory")
struct MemoryTests {
    /// Runs the test on each set of stores.
    private func with(_ test: (Memory, TestWorld) async throws -> Void) async throws {
        for stores in StoreSet.allCases {
            try await TestWorld.with(stores) { world async throws in
                try await world.withMemory { memory async throws in try await test(memory, world) }
            }
        }
    }

    @Test("What was remembered is in all three stores, and is recalled", .timeLimit(.minutes(5)))
    func rememberAndRecall() async throws {
        try await with { memory, world async throws in
            var draft = MemoryDraft(
                clientID: world.client, content: "User prefers morning deep work", type: "preference", scope: .project)
            draft.sessionID = "s-1"
            draft.runID = "r-1"
            draft.tags = ["work", "habit"]
            draft.metadata = ["source": "chat", "nested": ["a": [1, 2.5, nil]]]
            draft.occurredAt = Timestamp("2026-01-02T03:04:05Z")
            let receipt = try await memory.remember(draft)
            #expect(receipt.storedIn == [memory.database.name, memory.vectors.name, memory.cache.store.name])
            #expect(receipt.failed.isEmpty && receipt.warning == nil)
            let hits = try await memory.recall("when does the user work?", client: world.client)
            let hit = try #require(hits.first)
            #expect(hits.count == 1)
            #expect(hit.record.id == receipt.memoryID)
            #expect(hit.record.content == draft.content)
            #expect(hit.record.type == "preference" && hit.record.scope == .project)
            #expect(hit.record.sessionID == "s-1" && hit.record.runID == "r-1")
            #expect(hit.record.tags == draft.tags && hit.record.metadata == draft.metadata)
            #expect(hit.record.occurredAt == draft.occurredAt)
            #expect(hit.record.createdAt == receipt.createdAt)
            #expect(hit.source == .events)
            let similarity = try #require(hit.similarity)
            #expect((0...1).contains(similarity))
        }
    }

    @Test("A memory is an events row, as the specification's schema has it", .timeLimit(.minutes(5)))
    func row() async throws {
        try await with { memory, world async throws in
            var draft = MemoryDraft(clientID: world.client, content: "She said: \"ja\" \\ 'nein'\n", type: "fact")
            draft.metadata = ["k": "v"]
            let receipt = try await memory.remember(draft)
            let age =
                world.stores == .servers
                ? "extract(epoch FROM now() AT TIME ZONE 'utc' - created_at)::int / 60"
                : "(unixepoch() - created_at / 1000000) / 60"
            let rows = try await world.execute(
                """
                SELECT id, event_type, event_source, client_id, payload ->> 'content', metadata ->> 'k', \(age) FROM events
                """)
            let expected = [
                "\(receipt.memoryID)", "memory:fact", "memory-gateway", "\(world.client)", draft.content, "v", "0",
            ]
            #expect(rows == [expected])
            #expect(try await world.execute("SELECT user_id FROM client_profiles") == [["client-\(world.client)"]])
            try await world.eventually("the outbox is empty") {
                try await world.execute("SELECT count(*) FROM memory_outbox") == [["0"]]
            }
        }
    }

    @Test(
        "Any text comes back byte for byte", .timeLimit(.minutes(5)),
        arguments: [
            "e\u{301} and \u{e9}", "zalgo\u{0300}\u{0301}\u{0302}", "\u{202E}right to left", "👩‍👩‍👧‍👦", "{\"json\": [1]}",
            "tab\tnew\nline\r",
            "'; DROP TABLE events; --", "\\u0041 \\ \" ' ` $1 %s {}", "\u{FEFF}bom", "a\u{7F}\u{85}\u{2028}",
        ])
    func bytes(_ text: String) async throws {
        try await with { memory, world async throws in
            let receipt = try await memory.remember(text, client: world.client)
            let record = try await memory.memory(receipt.memoryID, client: world.client)
            #expect(Array(record.content.utf8) == Array(text.utf8))
            let hit = try await memory.recall(text, client: world.client).first
            #expect(hit.map { Array($0.record.content.utf8) } == Array(text.utf8))
        }
    }

    @Test("What cannot be remembered is refused, naming the field, and nothing is stored", .timeLimit(.minutes(5)))
    func invalid() async throws {
        try await with { memory, world async throws in
            func draft(_ change: (inout MemoryDraft) -> Void) -> MemoryDraft {
                var draft = MemoryDraft(clientID: world.client, content: "x")
                change(&draft)
                return draft
            }
            let wrong: [(String, MemoryDraft)] = [
                ("client_id", draft { $0.clientID = 0 }), ("client_id", draft { $0.clientID = -1 }),
                ("client_id", draft { $0.clientID = 1 << 31 }), ("content", draft { $0.content = "" }),
                ("content", draft { $0.content = " \n\t" }), ("content", draft { $0.content = "a\0b" }),
                ("content", draft { $0.content = String(repeating: "a", count: 65_537) }),
                ("memory_type", draft { $0.type = String(repeating: "t", count: 51) }),
                ("memory_type", draft { $0.type = "" }),
                ("session_id", draft { $0.sessionID = String(repeating: "s", count: 257) }),
                ("tags", draft { $0.tags = Array(repeating: "t", count: 65) }), ("tags", draft { $0.tags = ["a\0"] }),
                ("metadata", draft { $0.metadata = ["k": .string(String(repeating: "v", count: 20_000))] }),
                ("metadata", draft { $0.metadata = ["k": ["\0"]] }),
                ("ttl_seconds", draft { $0.expiry = .after(.zero) }),
                ("embedding", draft { $0.embedding = [1] }),
                ("embedding", draft { $0.embedding = Array(repeating: 0, count: 1536) }),
                ("embedding", draft { $0.embedding = Array(repeating: .nan, count: 1536) }),
            ]
            for (field, draft) in wrong {
                let error = await #expect(throws: MemoryError.self) { try await memory.remember(draft) }
                #expect(error?.field == field)
                #expect(error?.code == (draft.content.utf8.count > 65_536 ? .tooLarge : .invalidRequest))
            }
            #expect(try await world.execute("SELECT count(*) FROM events") == [["0"]])
        }
    }

    @Test("Content of exactly 64 KiB and a type of 50 characters are stored", .timeLimit(.minutes(5)))
    func atTheLimit() async throws {
        try await with { memory, world async throws in
            let content =
                String(repeating: "lorem ipsum 12345 ", count: 65_536 / 18) + String(repeating: "x", count: 65_536 % 18)
            let receipt = try await memory.remember(
                MemoryDraft(clientID: world.client, content: content, type: String(repeating: "ü", count: 50)))
            #expect(try await memory.memory(receipt.memoryID, client: world.client).content == content)
        }
    }

    @Test("A batch stores each valid item, in order, and the others fail alone", .timeLimit(.minutes(5)))
    func batch() async throws {
        try await with { memory, world async throws in
            let drafts = (0..<256).map { index in
                MemoryDraft(
                    clientID: world.client + index % 3, content: index % 10 == 7 ? "" : "memory number \(index)")
            }
            let results = try await memory.remember(drafts)
            #expect(results.count == 256)
            var previous: Int64 = 0
            for (index, result) in results.enumerated() {
                switch result {
                case .success(let receipt):
                    #expect(index % 10 != 7)
                    #expect(receipt.memoryID > previous)
                    previous = receipt.memoryID
                    #expect(receipt.clientID == drafts[index].clientID)
                case .failure(let error):
                    #expect(index % 10 == 7)
                    #expect(error.field == "content")
                }
            }
            let record = try await memory.memory(try results[100].get().memoryID, client: drafts[100].clientID)
            #expect(record.content == "memory number 100")
            for count in [0, 257] {
                await #expect(throws: MemoryError.self) {
                    try await memory.remember(Array(repeating: drafts[0], count: count))
                }
            }
        }
    }

    @Test("A deleted memory is gone from all stores, and a second time it is not found", .timeLimit(.minutes(5)))
    func delete() async throws {
        try await with { memory, world async throws in
            let receipt = try await memory.remember("a secret to forget", client: world.client)
            #expect(try await memory.recall("secret", client: world.client).count == 1)
            try await memory.delete(receipt.memoryID, client: world.client)
            #expect(try await memory.recall("secret", client: world.client).isEmpty)
            for _ in 0..<2 {
                let error = await #expect(throws: MemoryError.self) {
                    try await memory.delete(receipt.memoryID, client: world.client)
                }
                #expect(error?.code == .notFound)
            }
            let gone = await #expect(throws: MemoryError.self) {
                try await memory.memory(receipt.memoryID, client: world.client)
            }
            #expect(gone?.code == .notFound)
            #expect(try await world.execute("SELECT count(*) FROM events") == [["0"]])
            let answer = try await memory.vectors.search(
                [
                    VectorQuery(
                        clientID: world.client, sparse: .query("secret"), filter: RecallFilter(), limit: 10, now: .now)
                ],
                in: .events, deadline: .after(.seconds(10)))
            #expect(answer[0].sparse.isEmpty)
            let key = RecordKey(id: receipt.memoryID, clientID: world.client)
            #expect(await memory.cache.records([key], deadline: .after(.seconds(10))).isEmpty)
        }
    }

    @Test("Ids that no memory can have are not found", arguments: [Int64.min, -1, 0, 1 << 31, .max])
    func impossibleIDs(_ id: Int64) async throws {
        try await with { memory, world async throws in
            let get = await #expect(throws: MemoryError.self) { try await memory.memory(id, client: world.client) }
            let delete = await #expect(throws: MemoryError.self) { try await memory.delete(id, client: world.client) }
            #expect(get?.code == .notFound && delete?.code == .notFound)
        }
    }

    // MARK: Recall

    @Test("The same recall is answered from the cache until something is written", .timeLimit(.minutes(5)))
    func cached() async throws {
        try await with { memory, world async throws in
            try await memory.remember("tea at four", client: world.client)
            let request = RecallRequest(query: "when is tea?", clientID: world.client)
            let first = try await memory.recall(request)
            let second = try await memory.recall(request)
            #expect([first.isCached, second.isCached] == [false, true])
            #expect(first.encodedHits == second.encodedHits && first.count == 1 && second.count == 1)
            var other = request
            other.limit = 6
            #expect(try await !memory.recall(other).isCached)
            try await memory.remember("coffee at nine", client: world.client)
            #expect(try await !memory.recall(request).isCached)
            // Another client's write does not cost this one its cache.
            try await memory.remember("x", client: world.client + 1)
            #expect(try await memory.recall(request).isCached)
        }
    }

    @Test("Every filter holds", .timeLimit(.minutes(5)))
    func filters() async throws {
        try await with { memory, world async throws in
            func draft(_ name: String, _ change: (inout MemoryDraft) -> Void) -> MemoryDraft {
                var draft = MemoryDraft(clientID: world.client, content: "note \(name)")
                change(&draft)
                return draft
            }
            let results = try await memory.remember([
                draft("a") {
                    $0.type = "decision"; $0.tags = ["x", "y"]; $0.sessionID = "s1";
                    $0.occurredAt = Timestamp("2026-01-01")
                },
                draft("b") {
                    $0.scope = .project; $0.tags = ["x"]; $0.sessionID = "s2"; $0.occurredAt = Timestamp("2026-02-01")
                },
                draft("c") {
                    $0.scope = .run; $0.metadata = ["lang": "de", "n": 1, "deep": ["k": [1]]];
                    $0.occurredAt = Timestamp("2026-03-01")
                },
            ])
            #expect(results.allSatisfy { (try? $0.get()) != nil })
            let cases: [(String, (inout RecallFilter) -> Void)] = [
                ("abc", { _ in }), ("a", { $0.type = "decision" }), ("", { $0.type = "decisio" }),
                ("b", { $0.scopes = [.project] }),
                ("bc", { $0.scopes = [.project, .run] }), ("a", { $0.sessionID = "s1" }), ("ab", { $0.tags = ["x"] }),
                ("a", { $0.tags = ["y", "x"] }), ("", { $0.tags = ["z"] }),
                ("bc", { $0.since = Timestamp("2026-02-01") }),
                ("ab", { $0.until = Timestamp("2026-02-01") }), ("c", { $0.metadata = ["lang": "de"] }),
                ("c", { $0.metadata = ["n": 1.0] }), ("c", { $0.metadata = ["deep": ["k": [1]]] }),
                ("", { $0.metadata = ["n": "1"] }),
                ("", { $0.metadata = ["lang": "de", "x": nil] }),
            ]
            for mode in RecallRequest.Mode.allCases {
                for (expected, set) in cases {
                    var request = RecallRequest(query: "which note", clientID: world.client, limit: 10)
                    request.mode = mode
                    set(&request.filter)
                    let names = try await memory.recall(request).hits.compactMap(\.record.content.last).sorted()
                    #expect(String(names) == expected, "\(mode) \(request.filter)")
                }
            }
        }
    }

    @Test("Modes search as they say, and scores fall", .timeLimit(.minutes(5)))
    func modes() async throws {
        try await with { memory, world async throws in
            try await memory.remember("she paints sunrises", client: world.client)
            try await memory.remember("she runs at dawn", client: world.client)
            var request = RecallRequest(query: "sunrise paintings", clientID: world.client)
            for mode in RecallRequest.Mode.allCases {
                request.mode = mode
                let hits = try await memory.recall(request).hits
                #expect(hits.first?.record.content == "she paints sunrises")
                #expect(hits.count == (mode == .keyword ? 1 : 2))
                #expect(hits.map(\.score) == hits.map(\.score).sorted(by: >))
                #expect((hits.first?.similarity == nil) == (mode == .keyword))
            }
            request.mode = .hybrid
            let scores = try await memory.recall(request).hits.map(\.score)
            request.minScore = scores[0]
            #expect(try await memory.recall(request).count == 1)
            request.minScore = nil
            request.sources = [.agentMemories, .dailyThreads]
            #expect(try await memory.recall(request).count == 0)
        }
    }

    @Test("A recall that cannot be is refused, naming the field", .timeLimit(.minutes(5)))
    func invalidRecall() async throws {
        try await with { memory, world async throws in
            let wrong: [(String, (inout RecallRequest) -> Void)] = [
                ("k", { $0.limit = 0 }), ("k", { $0.limit = 101 }), ("k", { $0.limit = .max }),
                ("query", { $0.query = " " }),
                ("query", { $0.query = String(repeating: "q", count: 8193) }), ("client_id", { $0.clientID = 0 }),
                ("sources", { $0.sources = [] }), ("min_score", { $0.minScore = .nan }),
            ]
            for (field, change) in wrong {
                var request = RecallRequest(query: "x", clientID: world.client)
                change(&request)
                let error = await #expect(throws: MemoryError.self) { try await memory.recall(request) }
                #expect(error?.field == field)
            }
        }
    }

    @Test(
        "A question of stop words, signs or operators alone is answered", .timeLimit(.minutes(5)),
        arguments: [
            "what is it?", "?!", "\" & | ! ( :* -foo NEAR(", "' OR 1=1 --", String(repeating: "word ", count: 1600),
        ])
    func oddQuestions(_ query: String) async throws {
        try await with { memory, world async throws in
            try await memory.remember("something to find", client: world.client)
            #expect(try await memory.recall(query, client: world.client).count == 1)
        }
    }

    @Test("An expired memory is not found, and no recall is kept past an expiry", .timeLimit(.minutes(5)))
    func expiry() async throws {
        try await with { memory, world async throws in
            var past = MemoryDraft(clientID: world.client, content: "tea was at three")
            past.expiry = .at(Timestamp("2020-01-01") ?? .now)
            let gone = try await memory.remember(past)
            var soon = MemoryDraft(clientID: world.client, content: "tea is at four")
            soon.expiry = .after(.milliseconds(700))
            try await memory.remember(soon)
            let request = RecallRequest(query: "tea", clientID: world.client)
            _ = try await memory.recall(request)
            let error = await #expect(throws: MemoryError.self) {
                try await memory.memory(gone.memoryID, client: world.client)
            }
            #expect(error?.code == .notFound)
            try await world.eventually("the second memory expires") { try await memory.recall(request).count == 0 }
        }
    }

    @Test("A supplied vector is used as it is, and survives the loss of all points", .timeLimit(.minutes(5)))
    func suppliedVector() async throws {
        try await with { memory, world async throws in
            var draft = MemoryDraft(clientID: world.client, content: "alpha")
            // The vector of another text: found by that text's words, which can only be by the vector.
            draft.embedding = try await LexicalEmbedder().embed(["zebra"], deadline: .after(.seconds(1)))[0].get().map {
                $0 * 3
            }
            let receipt = try await memory.remember(draft)
            var request = RecallRequest(query: "zebra", clientID: world.client)
            request.mode = .dense
            let similarity = try #require(try await memory.recall(request).hits.first?.similarity)
            #expect(similarity > 0.999)
            // As the outbox finds it: nothing but the row.
            try await memory.vectors.delete([receipt.memoryID], in: .events, deadline: .after(.seconds(10)))
            // The worker may put the row back by itself, when it finds it gone; that is as good.
            try await world.execute("DELETE FROM memory_outbox")
            try await world.execute(
                "INSERT INTO memory_outbox (collection, record_id, client_id) SELECT 'events', id, client_id FROM events WHERE true ON CONFLICT DO NOTHING"
            )
            try await world.eventually("the point is back") {
                (try await memory.recall(request).hits.first?.similarity ?? 0) > 0.999
            }
        }
    }

    // MARK: Idempotency

    @Test("The same key and body give the first answer, another body is a conflict", .timeLimit(.minutes(5)))
    func idempotency() async throws {
        try await with { memory, world async throws in
            let draft = MemoryDraft(clientID: world.client, content: "once")
            let first = try await memory.remember(draft, idempotencyKey: "k-1")
            let second = try await memory.remember(draft, idempotencyKey: "k-1")
            #expect(first.memoryID == second.memoryID && first.createdAt == second.createdAt)
            #expect(first.storedIn == second.storedIn)
            let conflict = await #expect(throws: MemoryError.self) {
                try await memory.remember(MemoryDraft(clientID: world.client, content: "twice"), idempotencyKey: "k-1")
            }
            #expect(conflict?.code == .conflict)
            // A key is its client's own.
            let other = try await memory.remember(
                MemoryDraft(clientID: world.client + 1, content: "once"), idempotencyKey: "k-1")
            #expect(other.memoryID != first.memoryID)
            let yesterday = world.stores == .servers ? "now() - interval '25 hours'" : "created_at - 90000 * 1000000"
            try await world.execute("UPDATE idempotency_keys SET created_at = \(yesterday)")
            #expect(try await memory.remember(draft, idempotencyKey: "k-1").memoryID != first.memoryID)
        }
    }

    @Test("Many at once with one key store one memory", .timeLimit(.minutes(5)))
    func idempotencyRace() async throws {
        try await with { memory, world async throws in
            let draft = MemoryDraft(clientID: world.client, content: "once")
            let ids = try await withThrowingTaskGroup(of: Int64.self) { group in
                for _ in 0..<12 { group.addTask { try await memory.remember(draft, idempotencyKey: "race").memoryID } }
                return try await group.reduce(into: Set()) { $0.insert($1) }
            }
            #expect(ids.count == 1)
            #expect(try await world.execute("SELECT count(*) FROM events") == [["1"]])
        }
    }

    @Test("A gateway that stopped before it answered is finished by the retry", .timeLimit(.minutes(5)))
    func idempotencyAfterCrash() async throws {
        try await with { memory, world async throws in
            let drafts = (0..<3).map { MemoryDraft(clientID: world.client, content: "item \($0)") }
            let first = try await memory.remember(drafts.map { .success($0) }, idempotencyKey: "batch")
            try await world.execute("UPDATE idempotency_keys SET response = NULL")
            let second = try await memory.remember(drafts.map { .success($0) }, idempotencyKey: "batch")
            #expect(try first.map { try $0.get().memoryID } == second.map { try $0.get().memoryID })
            #expect(try await world.execute("SELECT count(*) FROM events") == [["3"]])
        }
    }

    @Test("Keys of yesterday are swept away at the start", .timeLimit(.minutes(5)))
    func idempotencySweep() async throws {
        for stores in StoreSet.allCases {
            try await TestWorld.with(stores) { world async throws in
                try await world.withMemory { memory async throws in
                    let draft = MemoryDraft(clientID: world.client, content: "once")
                    try await memory.remember(draft, idempotencyKey: "old")
                    let yesterday = stores == .servers ? "now() - interval '25 hours'" : "created_at - 90000 * 1000000"
                    try await world.execute("UPDATE idempotency_keys SET created_at = \(yesterday)")
                    try await memory.remember(draft, idempotencyKey: "new")
                }
                try await world.withMemory { _ in
                    try await world.eventually("only the new key is left") {
                        try await world.execute("SELECT key FROM idempotency_keys") == [["new"]]
                    }
                }
            }
        }
    }

    // MARK: Clients

    @Test("Without automatic profiles an unknown client is refused, and a known one served", .timeLimit(.minutes(5)))
    func knownClients() async throws {
        for stores in StoreSet.allCases {
            try await TestWorld.with(stores, configure: { $0.createsClients = false }) { world async throws in
                try await refusesUnknownClients(world)
            }
        }
    }

    private func refusesUnknownClients(_ world: TestWorld) async throws {
        do {
            try await world.withMemory { memory async throws in
                let error = await #expect(throws: MemoryError.self) {
                    try await memory.remember("x", client: world.client)
                }
                #expect(error?.code == .unprocessable && error?.field == "client_id")
                try await world.execute(
                    "INSERT INTO client_profiles (client_id, user_id) VALUES (\(world.client), 'ada')")
                try await memory.remember("x", client: world.client)
            }
        }
    }

    @Test("A profile that was deleted behind our back is made again", .timeLimit(.minutes(5)))
    func deletedProfile() async throws {
        try await with { memory, world async throws in
            let receipt = try await memory.remember("x", client: world.client)
            try await memory.delete(receipt.memoryID, client: world.client)
            try await world.execute("DELETE FROM client_profiles")
            try await memory.remember("y", client: world.client)
            #expect(try await world.execute("SELECT count(*) FROM client_profiles") == [["1"]])
        }
    }
}
