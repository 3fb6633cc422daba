import FoundationEssentials
import Metrics

/// Vectors from an OpenAI-compatible `/embeddings` endpoint. Its answers are not trusted: index, dimensions and numbers
/// are checked before anything is stored.
final class OpenAIEmbedder: Embedder {
    let model: String
    let maxBatch: Int
    private let configuration: EmbeddingsConfiguration
    private let client: CurlClient
    private let breaker: CircuitBreaker
    private let witness = ProviderWitness()
    private let tokens = Counter(label: "memory_gateway_embedding_tokens_total")

    init(_ configuration: EmbeddingsConfiguration, outage: Outage = .silent) throws(MemoryError) {
        breaker = CircuitBreaker(.embeddings, outage: outage)
        self.configuration = configuration
        model = configuration.model
        maxBatch = configuration.maxBatch
        client = try CurlClient(store: .embeddings, connections: 8)
    }

    func embed(_ texts: [String], deadline: Deadline) async -> [Result<[Float], MemoryError>] {
        await isolatingFailures(texts, isPoison: { !$0.isRetriable && $0.code != .configuration }) {
            texts throws(MemoryError) in try await request(texts, deadline)
        }
    }

    func check(deadline: Deadline) async throws(MemoryError) {
        for result in try await request(["memory"], deadline) { _ = try result.get() }
    }

    func close() async { await client.close() }

    private func request(
        _ texts: [String], _ deadline: Deadline
    ) async throws(MemoryError) -> [Result<[Float], MemoryError>] {
        try await breaker.run { () throws(MemoryError) in
            let start = ContinuousClock.now
            do throws(MemoryError) {
                let vectors = try await exchange(texts, deadline)
                witness.served()
                return vectors
            } catch {
                guard Self.mayBeTexts(error), await servesOthers(since: start, deadline) else { throw error }
                // The provider is well: it is these texts that it cannot bear, now or later.
                var error = error
                error.isRetriable = false
                throw error
            }
        }
    }

    /// Whether an error may be the fault of a text: a model that computes no number for it says so with a 500. A provider
    /// that is busy says so with a 503, or how long to wait.
    private static func mayBeTexts(_ error: MemoryError) -> Bool {
        guard let code = error.driverCode, code.hasPrefix("http 5"), error.retryAfter == nil else { return false }
        return !["http 503", "http 529"].contains(code)
    }

    /// Whether the provider has served, or serves, anybody since a request began that it failed.
    private func servesOthers(since start: ContinuousClock.Instant, _ deadline: Deadline) async -> Bool {
        await witness.serves(since: start) {
            do throws(MemoryError) {
                for result in try await exchange(["memory"], deadline) { _ = try result.get() }
                return true
            } catch {
                return false
            }
        }
    }

    private func exchange(
        _ texts: [String], _ deadline: Deadline
    ) async throws(MemoryError) -> [Result<[Float], MemoryError>] {
        var headers = ["Content-Type: application/json", "Accept: application/json"]
        if let key = configuration.apiKey { headers.append("Authorization: Bearer \(key.revealed)") }
        let reply = try await client.send(
            CurlRequest(
                method: .post, url: configuration.url + "/embeddings", headers: headers, body: body(texts),
                deadline: deadline, maxBytes: 64 << 10 + texts.count * (64 << 10)))
        guard reply.status == 200 else { throw Self.refusal(reply) }
        let answer = try? JSON.parse(reply.body)
        if let count = answer?["usage"]?["total_tokens"]?.int, count > 0 { tokens.increment(by: count) }
        return try Self.vectors(answer, reply.body, count: texts.count)
    }

    private func body(_ texts: [String]) -> [UInt8] {
        var writer = JSONWriter(capacity: texts.reduce(256) { $0 + $1.utf8.count + 8 })
        writer.beginObject()
        writer.key("model")
        writer.string(model)
        writer.key("encoding_format")
        writer.string("base64")
        if let dimensions = configuration.dimensions {
            writer.key("dimensions")
            writer.int(dimensions)
        }
        writer.key("input")
        writer.strings(texts)
        writer.endObject()
        return writer.bytes
    }

    private static func refusal(_ reply: CurlReply) -> MemoryError {
        let retriable = reply.status == 408 || reply.status == 409 || reply.status == 429 || reply.status >= 500
        // A wrong key or address stays wrong, but only until a person mends it: the texts are not at fault.
        let isOurs = [401, 402, 403, 404].contains(reply.status)
        var error = MemoryError.unavailable(
            .embeddings, ReplySummary.of(reply.body), driverCode: "http \(reply.status)")
        error.isRetriable = retriable || isOurs
        error.retryAfter = reply.retryAfter
        return error
    }

    /// Reads the vectors, by their `index`; a vector that is not acceptable fails alone.
    static func vectors(
        _ answer: JSON?, _ body: [UInt8], count: Int
    ) throws(MemoryError) -> [Result<[Float], MemoryError>] {
        guard let data = answer?["data"]?.array, data.count == count else {
            throw .badReply(.embeddings, ReplySummary.of(body))
        }
        var results = [Result<[Float], MemoryError>?](repeating: nil, count: count)
        for item in data {
            guard let index = item["index"]?.int.flatMap({ Int(exactly: $0) }), results.indices.contains(index),
                results[index] == nil
            else { throw .badReply(.embeddings, "an index that is missing, repeated or out of range") }
            results[index] = Result { () throws(MemoryError) in try vector(item["embedding"]) }
        }
        return results.compactMap { $0 }
    }

    private static func vector(_ json: JSON?) throws(MemoryError) -> [Float] {
        switch json {
        case .string(let base64)?:
            guard let data = Data(base64Encoded: base64), data.count % 4 == 0 else {
                throw .badReply(.embeddings, "base64 that is no array of floats", isRetriable: false)
            }
            return try VectorMath.normalised([Float](littleEndianBytes: Array(data)))
        case .array(let numbers)?:
            let floats = numbers.compactMap { $0.double.map { Float($0) } }
            guard floats.count == numbers.count else {
                throw .badReply(.embeddings, "an embedding with something that is no number", isRetriable: false)
            }
            return try VectorMath.normalised(floats)
        default:
            throw .badReply(.embeddings, "no embedding", isRetriable: false)
        }
    }
}
