import CStemmer
import Synchronization

/// The Snowball stemmer of libstemmer for English ("Porter 2"): one handle behind a lock.
final class Stemmer: Sendable {
    static let english = Stemmer("english")

    private let handle: Mutex<StemmerHandle?>

    private init(_ language: String) { handle = Mutex(StemmerHandle(language)) }

    /// The stems of lowercase words, in order.
    func stems(_ words: [String]) -> [String] {
        handle.withLock { handle in words.map { handle?.stem($0) ?? $0 } }
    }
}

/// The one owner of a libstemmer handle, which is not safe for two threads at once.
@safe private struct StemmerHandle: ~Copyable {
    private let stemmer: OpaquePointer

    init?(_ language: String) {
        guard let stemmer = unsafe sb_stemmer_new(language, nil) else { return nil }
        unsafe self.stemmer = stemmer
    }

    deinit { unsafe sb_stemmer_delete(stemmer) }

    func stem(_ word: String) -> String {
        let bytes = Array(word.utf8)
        guard let result = unsafe sb_stemmer_stem(stemmer, bytes, Int32(clamping: bytes.count)) else { return word }
        let count = Int(unsafe sb_stemmer_length(stemmer))
        return unsafe String(decoding: UnsafeBufferPointer(start: result, count: count), as: UTF8.self)
    }
}
