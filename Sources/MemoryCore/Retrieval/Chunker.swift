/// Cuts a text into overlapping chunks: at headings, else between paragraphs, else between sentences, else between words.
/// A text without any of these is cut between characters, never inside a code point.
struct Chunker {
    /// How many characters (Unicode scalars) a chunk has at most.
    var size = 1000
    /// How many characters of a chunk the next one begins with, at most.
    var overlap = 150
    /// How many characters are looked at together: all of a large text at once would take four times its size.
    var window = 1 << 16

    /// How good a place is to cut at.
    private enum Strength: Int, Comparable {
        case word, sentence, paragraph, heading

        static func < (left: Strength, right: Strength) -> Bool { left.rawValue < right.rawValue }
    }

    /// The chunks, in order, without white space at their ends; none of an empty text.
    func chunks(_ text: String) -> [String] {
        var rest = text.unicodeScalars[...]
        var scalars: [Unicode.Scalar] = []
        var chunks: [String] = []
        var start = 0
        while true {
            slide(&scalars, &start, &rest)
            guard start < scalars.count else { break }
            let (end, strength) = end(of: start, scalars)
            var view = String.UnicodeScalarView()
            view.append(contentsOf: scalars[start..<end])
            let chunk = String(view).trimmed
            if !chunk.isEmpty { chunks.append(chunk) }
            guard end < scalars.count else { break }
            // What follows a heading has nothing to do with what stands before it.
            start = strength == .heading ? end : max(start + 1, overlapStart(start, end, scalars))
        }
        return chunks
    }

    /// How far back of a place it is looked whether it is a good one to cut at.
    private static let lookBack = 8

    /// Moves the window on, when it does not hold a whole chunk any more and what comes after it.
    private func slide(
        _ scalars: inout [Unicode.Scalar], _ start: inout Int, _ rest: inout Substring.UnicodeScalarView
    ) {
        guard !rest.isEmpty, scalars.count - start <= size + 1 else { return }
        let gone = max(0, start - Self.lookBack * 2)
        scalars.removeFirst(gone)
        start -= gone
        let more = rest.prefix(max(window, size * 2))
        scalars.append(contentsOf: more)
        rest = rest[more.endIndex...]
    }

    /// Where a chunk ends: at the last of the best places in its second half.
    private func end(of start: Int, _ scalars: [Unicode.Scalar]) -> (Int, Strength?) {
        let limit = start + size
        var best: (place: Int, strength: Strength)?
        // A heading further up ends a chunk as well: a short section is a chunk of its own.
        let earliest = start + size / 2
        for place in (start + 1)..<max(start + 2, min(limit, scalars.count)) {
            guard let strength = strength(at: place, scalars), place >= earliest || strength == .heading else {
                continue
            }
            if strength == .heading, place - start >= size / 5 { return (place, .heading) }
            if place >= earliest, strength >= best?.strength ?? .word { best = (place, strength) }
        }
        if scalars.count <= limit { return (scalars.count, nil) }
        return best.map { ($0.place, $0.strength) } ?? (limit, nil)
    }

    /// Where the next chunk begins: at the first sentence, else the first word, of the end of this one.
    private func overlapStart(_ start: Int, _ end: Int, _ scalars: [Unicode.Scalar]) -> Int {
        var word: Int?
        for place in max(start + 1, end - overlap)..<end {
            guard let strength = strength(at: place, scalars) else { continue }
            if strength >= .sentence { return place }
            word = word ?? place
        }
        return word ?? end
    }

    /// How good it is to cut before this place; nil where a word would be cut.
    private func strength(at place: Int, _ scalars: [Unicode.Scalar]) -> Strength? {
        guard place < scalars.count, scalars[place - 1].properties.isWhitespace else { return nil }
        let isLineStart = scalars[place - 1] == "\n"
        if isLineStart, scalars[place] == "#" { return .heading }
        guard !scalars[place].properties.isWhitespace else { return nil }
        var before = place - 1
        var newlines = 0
        while before > 0, scalars[before].properties.isWhitespace, place - before < Self.lookBack {
            if scalars[before] == "\n" { newlines += 1 }
            before -= 1
        }
        if newlines > 1 { return .paragraph }
        return ".!?。！？".unicodeScalars.contains(scalars[before]) ? .sentence : .word
    }
}

extension String {
    /// The text without white space at its ends.
    fileprivate var trimmed: String {
        guard let first = firstIndex(where: { !$0.isWhitespace }), let last = lastIndex(where: { !$0.isWhitespace })
        else { return "" }
        return String(self[first...last])
    }
}
