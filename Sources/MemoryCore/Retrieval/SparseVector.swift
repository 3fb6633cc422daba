/// A text as weighted terms: the lexical half of hybrid search.
struct SparseVector: Sendable {
    /// Term hashes, ascending, each once.
    let indices: [UInt32]
    /// One weight for each index.
    let values: [Float]

    var isEmpty: Bool { indices.isEmpty }

    /// The term-frequency half of BM25, with k1 = 0.8 and b = 0; the vector store multiplies by the inverse document
    /// frequency. b = 0 because in memories the long ones hold the facts, and because then no average length is needed.
    ///
    /// Source of the formula: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009;
    /// of the two numbers: measured on LoCoMo.
    static func document(_ text: String) -> SparseVector {
        let k1: Float = 0.8
        return SparseVector(counting: Tokenizer.terms(text)) { count in count * (k1 + 1) / (count + k1) }
    }

    /// A question: each of its terms counts once. At most 64 terms, so that a long question cannot be slow.
    static func query(_ text: String) -> SparseVector {
        SparseVector(counting: Tokenizer.terms(text).prefix(64)) { _ in 1 }
    }

    private init(counting terms: some Sequence<String>, weight: (Float) -> Float) {
        var counts: [UInt32: Float] = [:]
        for term in terms { counts[Self.index(term), default: 0] += 1 }
        let sorted = counts.sorted { $0.key < $1.key }
        indices = sorted.map(\.key)
        values = sorted.map { weight($0.value) }
    }

    /// The term's place: 32-bit FNV-1a of its bytes.
    static func index(_ term: String) -> UInt32 {
        term.utf8.reduce(2_166_136_261) { ($0 ^ UInt32($1)) &* 16_777_619 }
    }
}
