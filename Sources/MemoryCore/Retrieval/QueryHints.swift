/// What a question says about who and when, beside what it is about.
struct QueryHints: Sendable {
    /// The question's lowercase words.
    private let words: Set<String>
    /// The months it names, 1...12.
    private let months: Set<Int>
    /// The years it names, 1900...2199.
    private let years: Set<Int>

    init(_ query: String) {
        let words = Tokenizer.words(query)
        self.words = Set(words)
        years = Set(words.compactMap { $0.utf8.count == 4 ? Int($0) : nil }.filter { (1900..<2200).contains($0) })
        var months: Set<Int> = []
        for (index, word) in words.enumerated() {
            guard let month = Self.months.firstIndex(of: word) else { continue }
            // "may" is a verb far more often than a month, unless a preposition or a number stands beside it.
            let neighbours = [index > 0 ? words[index - 1] : "", index + 1 < words.count ? words[index + 1] : ""]
            let isMonth = word != "may" || Self.before.contains(neighbours[0]) || neighbours.contains { Int($0) != nil }
            if isMonth { months.insert(month + 1) }
        }
        self.months = months
    }

    private static let months = [
        "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
        "december",
    ]
    private static let before: Set<String> = [
        "in", "of", "during", "since", "until", "last", "early", "late", "mid", "by",
    ]

    /// Whether the question names the one who speaks.
    func names(_ speaker: String) -> Bool {
        let parts = Tokenizer.words(speaker)
        return !parts.isEmpty && parts.allSatisfy(words.contains)
    }

    /// Whether the question names this moment's month, and no other year.
    func names(_ moment: Timestamp) -> Bool {
        guard !months.isEmpty else { return false }
        let (year, month, _, _) = moment.civil
        return months.contains(month) && (years.isEmpty || years.contains(year))
    }
}
