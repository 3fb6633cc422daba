import MemoryTestSupport
import Testing

@testable import MemoryCore

/// Small things that a review found, each at its edge.
@Suite("Edges that a review found")
struct ReviewEdgeTests {
    @Test("A recall that was ranked in another way is not served", .timeLimit(.minutes(5)))
    func ranking() async throws {
        try await TestWorld.with { world async throws in
            let request = RecallRequest(query: "when is tea?", clientID: world.client)
            try await world.withMemory { memory async throws in
                try await memory.remember("Tea is at four", client: world.client)
                #expect(try await !memory.recall(request).isCached)
                #expect(try await memory.recall(request).isCached)
            }
            var other = world
            other.configuration.denseWeight = 0.8
            try await other.withMemory { memory async throws in
                #expect(try await !memory.recall(request).isCached)
                #expect(try await memory.recall(request).isCached)
            }
        }
    }

    @Test("A question that is nobody's is kept as nobody's", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func nobodysQuestion(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            try await world.withMemory { memory async throws in
                _ = try await memory.ingest(DocumentDraft(id: "d", owner: .shared, content: "Refunds take three days."))
                #expect(try await memory.searchDocuments("how long do refunds take?", in: .shared).count == 1)
                #expect(try await memory.erase(client: 1).cached == 0)
            }
        }
    }

    // MARK: Expiry

    @Test(
        "An expiry is never early, and at most a second late, whatever the digits of its fraction",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func expiry(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            try await world.withMemory { memory async throws in
                let second = Timestamp(microseconds: (Timestamp.now.microseconds / 1_000_000 + 600) * 1_000_000)
                let offsets: [Duration] = [.zero, .microseconds(1), .milliseconds(500), .microseconds(999_999)]
                for offset in offsets {
                    var draft = MemoryDraft(clientID: world.client, content: "ends at \(offset)")
                    draft.expiry = .at(second.advanced(by: offset))
                    try await memory.remember(draft)
                }
                func sweep(_ now: Timestamp) async throws -> Int {
                    try await memory.database.write(deadline: .after(.seconds(10))) { session throws(MemoryError) in
                        try EventRepository(session: session).deleteExpired(now: now, limit: 100)
                    }
                }
                #expect(try await sweep(second.advanced(by: .microseconds(-1))) == 0)
                #expect(try await sweep(second) == 0)
                #expect(try await sweep(second.advanced(by: .milliseconds(1))) <= 2)
                _ = try await sweep(second.advanced(by: .seconds(1)))
                #expect(try await world.execute("SELECT count(*) FROM events") == [["0"]])
            }
        }
    }

    @Test("What ends after the year 9999 is not swept away now", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func farExpiry(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            try await world.withMemory { memory async throws in
                var draft = MemoryDraft(clientID: world.client, content: "for ever")
                draft.expiry = .after(.seconds(300_000_000_000))
                let id = try await memory.remember(draft).memoryID
                var patch = MemoryPatch()
                patch.expiry = .at(Timestamp(microseconds: .max))
                let other = try await memory.remember("for ever as well", client: world.client).memoryID
                _ = try await memory.update(other, client: world.client, patch)
                // One that was stored before the end of time was known.
                try await world.execute(
                    """
                    INSERT INTO events (event_type, event_source, client_id, payload, metadata) VALUES ('memory:fact', 'x',
                        \(world.client), '{"content": "old", "expires_at": "12166-01-01T00:00:00Z"}', '{}')
                    """)
                let gone = try await memory.database.write(deadline: .after(.seconds(10))) {
                    session throws(MemoryError) in
                    try EventRepository(session: session).deleteExpired(now: .now, limit: 100)
                }
                #expect(gone == 0)
                let first = try await memory.memory(id, client: world.client).expiresAt
                #expect(first.map { $0 > .now } == true)
                let last = try await memory.memory(other, client: world.client).expiresAt
                #expect(last == Timestamp("9999-12-31T23:59:59.999999Z"))
            }
        }
    }

    // MARK: Rates

    @Test(
        "Any number is a rate", arguments: [.infinity, -.infinity, .nan, 0, -1, 1e300, 1e-300, 0.5, 3] as [Double])
    func rates(_ perSecond: Double) {
        for burst in [nil, 1, Int.max] {
            let limit = RateLimit(perSecond: perSecond, burst: burst)
            var arrival: Int64 = 0
            #expect(limit.burst >= 1 && limit.interval >= 1 && limit.tolerance >= limit.interval)
            #expect(limit.take(&arrival, now: 1_700_000_000_000_000) == nil)
        }
        #expect(RateLimit(perSecond: 3).burst == 3)
    }

    // MARK: Logs

    @Test("What a provider or Qdrant repeats of a memory is not in the log", .timeLimit(.minutes(5)))
    func foreignWords() async throws {
        let secret = "She is afraid of dogs"
        let body =
            #"{"error": {"message": "cannot embed '\#(secret)'", "type": "invalid_request_error", "code": "nan"}}"#
        try await StubServer.with(answering: { _ in StubServer.Answer(400, body) }) { url, _ in
            let embedder = try OpenAIEmbedder(EmbeddingsConfiguration(url: url, model: "m"))
            let result = await embedder.embed([secret], deadline: .after(.seconds(10)))
            let error = #expect(throws: MemoryError.self) { try result[0].get() }
            #expect(error?.debugDescription.contains(secret) == false)
            #expect(error?.debugDescription.contains("invalid_request_error") == true)
            await embedder.close()
        }
        let status = #"{"status": {"error": "Wrong input: cannot parse \"\#(secret)\""}, "time": 0.1}"#
        for body in [status, secret, #"{"status": "\#(secret)"}"#, #"["\#(secret)"]"#] {
            let summary = ReplySummary.of(Array(body.utf8))
            #expect(!summary.contains(secret))
            #expect(body != status || summary.contains("Wrong input: cannot parse"))
        }
    }
}
