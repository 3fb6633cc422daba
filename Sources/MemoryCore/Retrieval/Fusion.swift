/// Ranks the candidates of a dense and a sparse search as one list.
///
/// The base is a weighted sum: `0.6 · cosine + 0.4 · bm25 / max(bm25)`. On top come small shares: of the neighbouring
/// memories of the same session, because an answer often stands next to what the question resembles; of the session's own
/// score; and for the speaker and the month that the question names. All weights were measured on LoCoMo's dev split.
struct Fusion: Sendable {
    /// The share of the cosine; the rest goes to the words. A stronger embedder earns more.
    var denseWeight = 0.6
    /// The share of a neighbour's base score, divided by its distance of 1, 2 or 3 memories.
    var neighbourWeight = 0.1
    /// The share of the session's score: the mean of its best three.
    var sessionWeight = 0.6
    var speakerWeight = 0.15
    var monthWeight = 0.15

    /// A candidate with its rank's reasons.
    struct Ranked: Sendable {
        let id: Int64
        let similarity: Double?
        let score: Double
    }

    /// - Returns: every candidate once, best first; equal scores by newest first.
    func rank(_ answer: VectorAnswer, hints: QueryHints) -> [Ranked] {
        var entries = merge(answer)
        let base = Dictionary(entries.map { ($0.candidate.id, $0) }, uniquingKeysWith: { first, _ in first })
        let sessions = sessionScores(entries)
        for index in entries.indices {
            let entry = entries[index]
            var score = entry.base
            if let session = entry.candidate.session {
                score += sessionWeight * (sessions[session] ?? 0)
                for distance in 1...3 as ClosedRange<Int64> {
                    for id in [entry.candidate.id &- distance, entry.candidate.id &+ distance] {
                        guard let neighbour = base[id], neighbour.candidate.session == session else { continue }
                        score += neighbourWeight / Double(distance) * neighbour.base
                    }
                }
            }
            if let speaker = entry.candidate.speaker, hints.names(speaker) { score += speakerWeight }
            if let moment = entry.candidate.moment, hints.names(moment) { score += monthWeight }
            entries[index].score = score
        }
        entries.sort { ($0.score, $0.candidate.id) > ($1.score, $1.candidate.id) }
        return entries.map { Ranked(id: $0.candidate.id, similarity: $0.similarity, score: $0.score) }
    }

    private struct Entry {
        let candidate: VectorCandidate
        let similarity: Double?
        let base: Double
        var score = 0.0
    }

    /// Both lists as one. A candidate that only its words found gets the lowest cosine of the dense list, the most that it
    /// can have.
    private func merge(_ answer: VectorAnswer) -> [Entry] {
        let floor = answer.dense.map(\.score).min() ?? 0
        let highest = answer.sparse.map(\.score).max() ?? 0
        let isHybrid = !answer.dense.isEmpty && !answer.sparse.isEmpty
        let dense = isHybrid ? denseWeight : answer.dense.isEmpty ? 0 : 1
        var words: [Int64: Double] = [:]
        for candidate in answer.sparse where highest > 0 { words[candidate.id] = candidate.score / highest }
        var entries: [Entry] = []
        var seen: Set<Int64> = []
        for candidate in answer.dense where seen.insert(candidate.id).inserted {
            let base = dense * candidate.score + (1 - dense) * (words[candidate.id] ?? 0)
            entries.append(Entry(candidate: candidate, similarity: min(max(candidate.score, 0), 1), base: base))
        }
        for candidate in answer.sparse where seen.insert(candidate.id).inserted {
            let base = dense * floor + (1 - dense) * (words[candidate.id] ?? 0)
            entries.append(Entry(candidate: candidate, similarity: nil, base: base))
        }
        return entries
    }

    private func sessionScores(_ entries: [Entry]) -> [String: Double] {
        let bySession = Dictionary(grouping: entries.filter { $0.candidate.session != nil }) {
            $0.candidate.session ?? ""
        }
        return bySession.mapValues { members in
            members.map(\.base).sorted(by: >).prefix(3).reduce(0, +) / 3
        }
    }
}
