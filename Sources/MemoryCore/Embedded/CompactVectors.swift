/// Vectors of 16-bit numbers (bfloat16) in chunks, and the exact cosine of a question with each of them.
///
/// bfloat16 keeps eight bits of each number; on unit vectors of 1536 numbers that moves a cosine by less than 0.001. A
/// vector is kept up to its last number that is not zero, because models with fewer dimensions are padded with zeros; and
/// one that is mostly zeros, as lexical vectors are, as its other numbers with their places.
struct CompactVectors: Sendable {
    /// Some vectors of one length. A value: a search goes on with what it began with while another is written.
    private struct Chunk: Sendable {
        let width: Int
        var ids: [Int64] = []
        var numbers: [UInt16] = []
    }

    /// A chunk is copied when it is written while it is searched, so it must not be large.
    private static let chunkCount = 256

    private var chunks: [Chunk] = []
    /// Vectors that are mostly zeros: each number as its place in the upper and its bits in the lower half.
    private var sparse: [Int64: [UInt32]] = [:]
    private var places: [Int64: (chunk: Int, index: Int)] = [:]

    /// How many vectors there are.
    var count: Int { places.count + sparse.count }

    /// What they take in memory, in bytes, with their ids and places.
    var bytes: Int {
        chunks.reduce(0) { $0 + $1.numbers.count * 2 } + places.count * 48 + sparse.count * 96 + sparseNumbers * 4
    }

    private var sparseNumbers = 0

    // MARK: The form on disk

    /// The 16-bit form of a vector, little-endian: all numbers up to the last that is not zero or, marked by a byte more
    /// that makes the length odd, pairs of a place and a number.
    static func encode(_ vector: [Float]) -> [UInt8] {
        let used = (vector.lastIndex { $0 != 0 } ?? -1) + 1
        let isSparse = vector.count { $0 != 0 } * 4 < used
        var bytes: [UInt8] = isSparse ? [0] : []
        bytes.reserveCapacity(used * 2)
        for (place, value) in vector[..<used].enumerated() where !isSparse || value != 0 {
            if isSparse { append(UInt16(truncatingIfNeeded: place), to: &bytes) }
            // Round to nearest, ties to even.
            let bits = value.bitPattern
            append(UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16), to: &bytes)
        }
        return bytes
    }

    private static func append(_ value: UInt16, to bytes: inout [UInt8]) {
        bytes.append(UInt8(truncatingIfNeeded: value))
        bytes.append(UInt8(truncatingIfNeeded: value >> 8))
    }

    /// The vector that ``encode(_:)`` made into bytes, with 1536 numbers again.
    static func decode(_ bytes: [UInt8]) -> [Float] {
        var vector = [Float](repeating: 0, count: Limits.dimensions)
        func number(_ place: Int) -> UInt16 { UInt16(bytes[place]) | UInt16(bytes[place + 1]) << 8 }
        func set(_ index: Int, _ bits: UInt16) {
            if index < vector.count { vector[index] = Float(bitPattern: UInt32(bits) << 16) }
        }
        if bytes.count.isMultiple(of: 2) {
            for place in stride(from: 0, to: bytes.count, by: 2) { set(place / 2, number(place)) }
        } else {
            for place in stride(from: 1, to: bytes.count - 3, by: 4) { set(Int(number(place)), number(place + 2)) }
        }
        return vector
    }

    // MARK: Changing

    /// Adds a vector in its form on disk, or takes the place of the one with this id.
    mutating func set(_ id: Int64, _ bytes: [UInt8]) {
        remove(id)
        guard bytes.count.isMultiple(of: 2) else { return setSparse(id, bytes) }
        let width = bytes.count / 2
        // Rounded up, so that vectors of about the same length share a chunk, and whole SIMD steps fit.
        let padded = max(16, (width + 15) / 16 * 16)
        var place = chunks.count - 1
        if chunks.isEmpty || chunks[place].width != padded || chunks[place].ids.count >= Self.chunkCount {
            place = chunks.lastIndex { $0.width == padded && $0.ids.count < Self.chunkCount } ?? chunks.count
        }
        if place == chunks.count { chunks.append(Chunk(width: padded)) }
        places[id] = (place, chunks[place].ids.count)
        chunks[place].ids.append(id)
        for index in 0..<width {
            chunks[place].numbers.append(UInt16(bytes[index * 2]) | UInt16(bytes[index * 2 + 1]) << 8)
        }
        chunks[place].numbers.append(contentsOf: repeatElement(0, count: padded - width))
    }

    private mutating func setSparse(_ id: Int64, _ bytes: [UInt8]) {
        let pairs = stride(from: 1, to: bytes.count - 3, by: 4).map { start in
            UInt32(bytes[start]) << 16 | UInt32(bytes[start + 1]) << 24 | UInt32(bytes[start + 2])
                | UInt32(bytes[start + 3]) << 8
        }
        sparse[id] = pairs
        sparseNumbers += pairs.count
    }

    /// Takes a vector out; the last of its chunk moves to its place.
    mutating func remove(_ id: Int64) {
        if let pairs = sparse.removeValue(forKey: id) { sparseNumbers -= pairs.count }
        guard let (chunk, index) = places.removeValue(forKey: id) else { return }
        let (last, width) = (chunks[chunk].ids.count - 1, chunks[chunk].width)
        if index != last {
            let moved = chunks[chunk].ids[last]
            chunks[chunk].ids[index] = moved
            for offset in 0..<width {
                chunks[chunk].numbers[index * width + offset] = chunks[chunk].numbers[last * width + offset]
            }
            places[moved] = (chunk, index)
        }
        chunks[chunk].ids.removeLast()
        chunks[chunk].numbers.removeLast(width)
    }

    // MARK: Searching

    /// The nearest vectors, best first.
    ///
    /// `query` has unit length and 1536 numbers; `isAllowed` decides before a distance is computed.
    func nearest(to query: [Float], limit: Int, isAllowed: (Int64) -> Bool) -> [(id: Int64, score: Double)] {
        var best = BestScores(limit: limit)
        for (id, pairs) in sparse where isAllowed(id) {
            best.offer(id, Double(Self.dot(query, pairs)))
        }
        for chunk in chunks {
            let width = min(chunk.width, query.count)
            for (index, id) in chunk.ids.enumerated() where isAllowed(id) {
                best.offer(id, Double(Self.dot(query, chunk.numbers, from: index * chunk.width, count: width)))
            }
        }
        return best.sorted
    }

    private static func dot(_ query: [Float], _ pairs: [UInt32]) -> Float {
        var sum: Float = 0
        for pair in pairs {
            let place = Int(pair >> 16)
            if place < query.count { sum += query[place] * Float(bitPattern: pair << 16) }
        }
        return sum
    }

    /// The dot product of a query with `count` numbers (a multiple of 16) of a chunk.
    private static func dot(_ query: [Float], _ numbers: [UInt16], from start: Int, count: Int) -> Float {
        // The bounds hold by construction: chunks hold whole vectors of their width, and no query is shorter.
        unsafe query.withUnsafeBytes { query in
            unsafe numbers.withUnsafeBytes { numbers in
                var (low, high) = (SIMD8<Float>.zero, SIMD8<Float>.zero)
                for offset in stride(from: 0, to: count, by: 16) {
                    let at = (start + offset) * 2
                    let a = unsafe numbers.loadUnaligned(fromByteOffset: at, as: SIMD8<UInt16>.self)
                    let b = unsafe numbers.loadUnaligned(fromByteOffset: at + 16, as: SIMD8<UInt16>.self)
                    let x = unsafe query.loadUnaligned(fromByteOffset: offset * 4, as: SIMD8<Float>.self)
                    let y = unsafe query.loadUnaligned(fromByteOffset: offset * 4 + 32, as: SIMD8<Float>.self)
                    low += x * widened(a)
                    high += y * widened(b)
                }
                return (low + high).sum()
            }
        }
    }

    /// The upper half of a 32-bit float is its bfloat16.
    @inline(__always)
    private static func widened(_ values: SIMD8<UInt16>) -> SIMD8<Float> {
        unsafe unsafeBitCast(SIMD8<UInt32>(truncatingIfNeeded: values) &<< 16, to: SIMD8<Float>.self)
    }
}

/// Keeps the best of many scores: a heap with the worst of them on top.
struct BestScores {
    private let limit: Int
    private var heap: [(id: Int64, score: Double)] = []

    init(limit: Int) { self.limit = max(1, limit) }

    /// The best, in order; equal scores by newest first.
    var sorted: [(id: Int64, score: Double)] { heap.sorted { ($0.score, $0.id) > ($1.score, $1.id) } }

    mutating func offer(_ id: Int64, _ score: Double) {
        if heap.count < limit {
            heap.append((id, score))
            var child = heap.count - 1
            while child > 0, heap[child].score < heap[(child - 1) / 2].score {
                heap.swapAt(child, (child - 1) / 2)
                child = (child - 1) / 2
            }
        } else if score > heap[0].score {
            heap[0] = (id, score)
            var parent = 0
            while true {
                let left = parent * 2 + 1
                guard left < heap.count else { break }
                let right = left + 1
                let child = right < heap.count && heap[right].score < heap[left].score ? right : left
                guard heap[child].score < heap[parent].score else { break }
                heap.swapAt(child, parent)
                parent = child
            }
        }
    }
}
