/// Turns texts into vectors.
protocol Embedder: Sendable {
    /// The name of the model, part of every cache key and every point.
    var model: String { get }

    /// How many texts go to it at once at most.
    var maxBatch: Int { get }

    /// One vector of unit length and 1536 numbers for each text, in the same order. A text can fail alone.
    func embed(_ texts: [String], deadline: Deadline) async -> [Result<[Float], MemoryError>]

    /// Checks the settings against the provider.
    ///
    /// - Throws: ``MemoryError`` with `configuration` when the model cannot be used here.
    func check(deadline: Deadline) async throws(MemoryError)

    /// Closes connections.
    func close() async
}

/// What is done to every vector that comes from outside.
enum VectorMath {
    /// Checks numbers, pads with zeros up to 1536, and scales to unit length; padding changes no cosine.
    ///
    /// - Throws: ``MemoryError`` with `bad_reply`, not retriable: the same text would give the same vector.
    static func normalised(_ values: [Float]) throws(MemoryError) -> [Float] {
        guard !values.isEmpty, values.count <= Limits.dimensions else {
            throw dimensions(values.count)
        }
        let norm = values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
        guard norm.isFinite, norm > 1e-12 else {
            throw .badReply(.embeddings, "a vector that is not finite, or all zero", isRetriable: false)
        }
        let scale = Float(1 / norm)
        var unit = values.map { $0 * scale }
        unit.append(contentsOf: repeatElement(0, count: Limits.dimensions - values.count))
        return unit
    }

    static func dimensions(_ count: Int) -> MemoryError {
        MemoryError(
            .configuration,
            "The embedding model gives \(count) dimensions, and the collections hold \(Limits.dimensions)",
            store: .embeddings)
    }
}
