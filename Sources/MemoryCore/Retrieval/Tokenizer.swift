/// From text to the terms that lexical search counts: Unicode words, lowercase, without stop words, stemmed. Scripts that
/// put no space between words give pairs of neighbouring characters instead.
enum Tokenizer {
    /// The terms of a text, in order, with repetitions.
    static func terms(_ text: String) -> [String] {
        let words = words(text).filter { !StopWords.english.contains($0) }
        return Stemmer.english.stems(words)
    }

    /// The words that full text looks for: each once, without stop words, at most 16, because their number bounds the cost.
    static func searchWords(_ text: String) -> [String] {
        var words: [String] = []
        for word in Tokenizer.words(text) where !StopWords.english.contains(word) && !words.contains(word) {
            words.append(word)
            if words.count == 16 { break }
        }
        return words
    }

    /// The lowercase words of a text, stop words included.
    static func words(_ text: String) -> [String] {
        var words: [String] = []
        var word = String.UnicodeScalarView()
        var previous: Unicode.Scalar?
        func endWord() {
            if !word.isEmpty { words.append(String(word)) }
            word = String.UnicodeScalarView()
        }
        for scalar in text.lowercased().unicodeScalars {
            if scalar.isUnspaced {
                endWord()
                if let before = previous { words.append(String(before) + String(scalar)) }
                previous = scalar
                continue
            }
            if previous != nil { previous = nil }
            if scalar.isWordCharacter { word.append(scalar) } else { endWord() }
        }
        endWord()
        return words
    }
}

extension Unicode.Scalar {
    fileprivate var isWordCharacter: Bool {
        if isASCII {
            return (0x30...0x39).contains(value) || (0x61...0x7A).contains(value) || (0x41...0x5A).contains(value)
        }
        return properties.isAlphabetic || properties.numericType != nil
            || properties.canonicalCombiningClass != .notReordered
    }

    /// Han, Hiragana, Katakana, Thai, Lao, Myanmar and Khmer, which write words without spaces.
    fileprivate var isUnspaced: Bool {
        switch value {
        case 0x0E00...0x0EFF, 0x1000...0x109F, 0x1780...0x17FF, 0x3040...0x30FF, 0x3400...0x4DBF, 0x4E00...0x9FFF,
            0xF900...0xFAFF, 0x20000...0x3134F:
            properties.isAlphabetic || properties.isIdeographic
        default: false
        }
    }
}
