import Testing

@testable import MemoryCore

@Suite("Retrieval")
struct RetrievalTests {
    @Test(
        "Words become stems, without stop words",
        arguments: [
            ("Where does she go running?", ["go", "run"]),
            ("Caroline's adoption agencies", ["carolin", "adopt", "agenc"]),
            ("don't", []), ("Äpfel kosten 3,50 €", ["äpfel", "kosten", "3", "50"]), ("", []), ("?!…", []),
            ("東京に行く", ["東京", "京に", "に行", "行く"]),
        ])
    func terms(_ text: String, _ expected: [String]) {
        #expect(Tokenizer.terms(text) == expected)
    }

    @Test("A term's weight grows with its count, and stays under k1 + 1")
    func weights() throws {
        let once = SparseVector.document("paint")
        let often = SparseVector.document(String(repeating: "paint ", count: 1000))
        #expect(once.values == [1])
        let weight = try #require(often.values.first)
        #expect(weight > 1.7 && weight < 1.8)
        #expect(once.indices == often.indices)
    }

    @Test("A question counts each of its terms once, 64 at most")
    func query() {
        #expect(SparseVector.query("paint paint sunrise").values == [1, 1])
        let long = (0..<500).map { "word\($0)" }.joined(separator: " ")
        #expect(SparseVector.query(long).indices.count == 64)
    }

    private func candidate(_ id: Int64, _ score: Double, session: String? = nil, speaker: String? = nil)
        -> VectorCandidate
    {
        VectorCandidate(id: id, score: score, session: session, speaker: speaker, moment: nil)
    }

    @Test("Fusion is the weighted sum of cosine and words")
    func weightedSum() {
        let answer = VectorAnswer(
            dense: [candidate(1, 0.9), candidate(2, 0.5)], sparse: [candidate(2, 8), candidate(3, 4)])
        let ranked = Fusion().rank(answer, hints: QueryHints("x"))
        #expect(ranked.map(\.id) == [2, 1, 3])
        #expect(abs(ranked[0].score - (0.6 * 0.5 + 0.4)) < 1e-9)
        #expect(ranked[1].similarity == 0.9)
        #expect(ranked[2].similarity == nil)
    }

    @Test("One list alone ranks by itself")
    func oneList() {
        let words = Fusion().rank(VectorAnswer(sparse: [candidate(1, 2), candidate(2, 4)]), hints: QueryHints("x"))
        #expect(words.map(\.id) == [2, 1])
        #expect(words[0].score == 1)
        #expect(Fusion().rank(VectorAnswer(), hints: QueryHints("x")).isEmpty)
    }

    @Test("A neighbour in the same session lifts a memory; one of another session does not")
    func neighbours() {
        func score(of id: Int64, neighbourSession: String) -> Double {
            let answer = VectorAnswer(dense: [
                candidate(10, 0.5, session: "a"), candidate(11, 0.9, session: neighbourSession),
            ])
            return Fusion(sessionWeight: 0).rank(answer, hints: QueryHints("x")).first { $0.id == id }?.score ?? 0
        }
        #expect(abs(score(of: 10, neighbourSession: "a") - 0.59) < 1e-9)
        #expect(abs(score(of: 10, neighbourSession: "b") - 0.5) < 1e-9)
    }

    @Test("The speaker that the question names is preferred")
    func speaker() {
        let answer = VectorAnswer(dense: [candidate(1, 0.5, speaker: "ada"), candidate(2, 0.52, speaker: "bob")])
        #expect(Fusion().rank(answer, hints: QueryHints("Where did Ada go?")).first?.id == 1)
        #expect(Fusion().rank(answer, hints: QueryHints("Where did they go?")).first?.id == 2)
    }

    @Test(
        "A month is named with or without its year",
        arguments: [
            ("What happened in May 2023?", true), ("What happened in May?", true), ("What may happen?", false),
            ("What happened in May 2022?", false), ("what happened in june", false),
        ])
    func month(_ query: String, _ expected: Bool) throws {
        #expect(QueryHints(query).names(try #require(Timestamp("2023-05-08T13:56:00"))) == expected)
    }

    @Test("The speaker, session and moment of a memory are found where callers put them")
    func features() {
        var draft = MemoryDraft(clientID: 1, content: "Mary Ann: I moved")
        draft.metadata = ["session": 3, "datetime": "2023-05-08T13:56:00"]
        let record = MemoryRecord(draft, id: 1, createdAt: .now)
        #expect(record.speaker == "mary ann")
        #expect(record.sessionKey == "3")
        #expect(record.moment.description == "2023-05-08T13:56:00Z")
        #expect(
            MemoryRecord(MemoryDraft(clientID: 1, content: "Note: buy milk"), id: 1, createdAt: .now).speaker == "note")
        #expect(
            MemoryRecord(MemoryDraft(clientID: 1, content: "at 10:30 we met"), id: 1, createdAt: .now).speaker == nil)
    }

    @Test("The lexical embedder gives the same unit vector for the same words")
    func lexicalEmbedder() async throws {
        let vectors = await LexicalEmbedder()
            .embed(["I went running", "running", "painting a sunrise", "…"], deadline: .after(.seconds(5)))
            .map { try? $0.get() }
        let unit = try vectors.map { try #require($0) }
        for vector in unit {
            #expect(vector.count == 1536)
            #expect(abs(vector.reduce(0) { $0 + $1 * $1 } - 1) < 1e-4)
        }
        func cosine(_ a: [Float], _ b: [Float]) -> Float { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
        #expect(cosine(unit[0], unit[1]) > cosine(unit[0], unit[2]) + 0.3)
    }

    @Test("A long text is embedded elsewhere than a short one, and alike")
    func longTexts() async throws {
        let long = String(repeating: "painting a sunrise. ", count: 2000)
        let both = await LexicalEmbedder().embed([long, "painting a sunrise."], deadline: .after(.seconds(30)))
        let vectors = try both.map { try $0.get() }
        #expect(abs(zip(vectors[0], vectors[1]).reduce(0) { $0 + $1.0 * $1.1 } - 1) < 1e-3)
        // Only what waits for a thread can be too late for one.
        let late = await LexicalEmbedder().embed([long], deadline: .after(.zero))
        #expect(throws: MemoryError.self) { try late[0].get() }
        let short = await LexicalEmbedder().embed(["short"], deadline: .after(.zero))
        #expect(throws: Never.self) { try short[0].get() }
    }

    @Test("A text that is looked at piece by piece is cut as one that is looked at as a whole", arguments: 0..<40)
    func windows(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let pieces = ["word", "longer word", ".", " ", " ", "\n", "\n\n", "# Heading\n", "é", "猫", "        \n  "]
        let text = (0..<Int.random(in: 0..<3000, using: &generator)).map { _ in
            pieces[Int.random(in: pieces.indices, using: &generator)]
        }.joined()
        let whole = Chunker(size: 100, overlap: 15, window: .max).chunks(text)
        #expect(Chunker(size: 100, overlap: 15, window: 1).chunks(text) == whole)
        #expect(Chunker(size: 100, overlap: 15, window: 333).chunks(text) == whole)
    }
}
