/// A vector of a text's own words, by feature hashing: deterministic, local, without a model. Texts that share words are
/// near each other; texts that only share meaning are not.
///
/// Source: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009.
struct LexicalEmbedder: Embedder {
    let model = "local-lexical-v1"
    let maxBatch = 256

    /// From how much text on its words take longer than a millisecond.
    static let slowBytes = 1 << 14

    func embed(_ texts: [String], deadline: Deadline) async -> [Result<[Float], MemoryError>] {
        guard texts.reduce(0, { $0 + $1.utf8.count }) > Self.slowBytes else { return Self.vectors(texts) }
        do throws(MemoryError) {
            return try await WorkThreads.shared.run(deadline: deadline) { Self.vectors(texts) }
        } catch {
            return texts.map { _ in .failure(error) }
        }
    }

    private static func vectors(_ texts: [String]) -> [Result<[Float], MemoryError>] {
        texts.map { text in Result { () throws(MemoryError) in try VectorMath.normalised(features(text)) } }
    }

    func check(deadline: Deadline) async throws(MemoryError) {}

    func close() async {}

    private static func features(_ text: String) -> [Float] {
        var terms = Tokenizer.terms(text)
        if terms.isEmpty { terms = Tokenizer.words(text) }
        if terms.isEmpty { terms = [text] }
        var counts: [String: Float] = [:]
        for term in terms { counts[term, default: 0] += 1 }
        var values = [Float](repeating: 0, count: Limits.dimensions)
        for (term, count) in counts {
            let hash = scramble(SparseVector.index(term))
            let sign: Float = hash & 0x8000_0000 == 0 ? 1 : -1
            values[Int(hash & 0x7FFF_FFFF) % Limits.dimensions] += sign * count.squareRoot()
        }
        // Two terms can cancel each other out; then the first place stands for the text.
        if values.allSatisfy({ $0 == 0 }) { values[0] = 1 }
        return values
    }

    /// Spreads similar hashes apart (the finaliser of MurmurHash3).
    private static func scramble(_ hash: UInt32) -> UInt32 {
        var hash = hash
        hash = (hash ^ hash >> 16) &* 0x85EB_CA6B
        hash = (hash ^ hash >> 13) &* 0xC2B2_AE35
        return hash ^ hash >> 16
    }
}
