import Foundation

@testable import MemoryCore

/// Everything in the library that reads bytes from outside, for libFuzzer: `make fuzz`. What traps, hangs, takes memory
/// without bound or breaks a promise that is checked here, is a finding; its input goes into `corpus/` with the repair.
enum Target: String {
    /// The bodies of requests, up to what is remembered and recalled.
    case request
    /// The parser and the writer of JSON: what is accepted comes back as it was.
    case json
    /// Words, stems, chunks, hints and times in texts.
    case words
    /// Qdrant's answers.
    case qdrant
    /// The embedding provider's answers.
    case embeddings
    /// What is found under our keys in Valkey.
    case envelope

    func run(_ bytes: [UInt8]) {
        switch self {
        case .request: Self.request(bytes)
        case .json: Self.json(bytes)
        case .words: Self.words(String(decoding: bytes, as: UTF8.self))
        case .qdrant: Self.qdrant(bytes)
        case .embeddings: Self.embeddings(bytes)
        case .envelope: Self.envelope(bytes)
        }
    }

    private static func request(_ bytes: [UInt8]) {
        guard let object = try? JSONObject(request: bytes) else { return }
        if let draft = try? MemoryDraft(object), (try? draft.validate()) != nil {
            precondition(draft.content.utf8.count <= 65_536 && !draft.content.utf8.contains(0))
            precondition(draft.embedding.map { $0.allSatisfy(\.isFinite) } ?? true)
        }
        if let request = try? RecallRequest(object), (try? request.validate()) != nil {
            precondition((1...100).contains(request.limit))
            precondition(request.fingerprint("m") == request.fingerprint("m"))
        }
        _ = try? MemoryPatch(object)
    }

    private static func json(_ bytes: [UInt8]) {
        guard let value = try? JSON.parse(bytes) else { return }
        let written = value.encoded
        precondition((try? JSON.parse(written)) == value, "what was written reads otherwise")
    }

    private static func words(_ text: String) {
        precondition(Tokenizer.searchWords(text).count <= 16)
        let sparse = SparseVector.document(text)
        precondition(sparse.indices.count == sparse.values.count && sparse.values.allSatisfy(\.isFinite))
        precondition(Set(sparse.indices).count == sparse.indices.count)
        _ = SparseVector.query(text)
        let hints = QueryHints(text)
        _ = hints.names(text)
        if let time = Timestamp(text) { precondition(Timestamp(time.description) == time) }
        _ = KeyText.isWellFormed(text)
    }

    private static func qdrant(_ bytes: [UInt8]) {
        guard let lists = try? QdrantRequests.candidates(bytes) else { return }
        precondition(lists.joined().allSatisfy { $0.score.isFinite })
        let fusion = Fusion()
        let ranked = fusion.rank(
            VectorAnswer(dense: lists.first ?? [], sparse: lists.dropFirst().first ?? []),
            hints: QueryHints("tea in May"))
        precondition(Set(ranked.map(\.id)).count == ranked.count, "a candidate twice")
    }

    private static func embeddings(_ bytes: [UInt8]) {
        let answer = try? JSON.parse(bytes, maxDepth: 32)
        guard let vectors = try? OpenAIEmbedder.vectors(answer, bytes, count: 2) else { return }
        for vector in vectors.compactMap({ try? $0.get() }) {
            precondition(vector.count == Limits.dimensions && vector.allSatisfy(\.isFinite))
        }
    }

    private static func envelope(_ bytes: [UInt8]) {
        precondition(CacheEnvelope.open(bytes, clientID: 7, key: "k") == nil, "nobody sealed this")
        let sealed = CacheEnvelope.seal(bytes, clientID: 7, key: "k", tag: 3)
        precondition(CacheEnvelope.open(sealed, clientID: 7, key: "k")?.payload == bytes)
        precondition(CacheEnvelope.open(sealed, clientID: 8, key: "k") == nil, "another client's")
        precondition(CacheEnvelope.open(sealed.dropLast(), clientID: 7, key: "k") == nil, "a cut one")
        _ = CompactVectors.decode(bytes)
        _ = MemoryRecord(encoded: bytes)
    }
}

extension CacheEnvelope {
    fileprivate static func open(_ bytes: ArraySlice<UInt8>, clientID: Int, key: String) -> (
        payload: [UInt8], tag: UInt64
    )? {
        open(Array(bytes), clientID: clientID, key: key)
    }
}

private let target = Target(rawValue: ProcessInfo.processInfo.environment["FUZZ_TARGET"] ?? "")

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ one: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// What SwiftPM takes for the `main` of an executable without one.
@_cdecl("Fuzz_main")
public func fuzzMain(_ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    guard target != nil else {
        print("FUZZ_TARGET must be request, json, words, qdrant, embeddings or envelope")
        return 2
    }
    var (count, arguments) = (count, arguments)
    return runDriver(&count, &arguments) { start, count in fuzzOne(start, count) }
}

/// The name that libFuzzer's library wants to find.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOne(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    target?.run(Array(UnsafeBufferPointer(start: start, count: count)))
    return 0
}
