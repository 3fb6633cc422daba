/// The collections of points, each a kind of memory.
public struct VectorCollection: Sendable, Hashable, CustomStringConvertible {
    /// The name of the collection.
    public let description: String

    init(_ description: String) { self.description = description }

    /// Chunks of documents.
    public static let docChunks = VectorCollection("doc_chunks")
    /// What was remembered.
    public static let events = VectorCollection("events")
    /// What an extractor has distilled.
    public static let agentMemories = VectorCollection("agent_memories")
    /// Daily and weekly reflections.
    public static let dailyThreads = VectorCollection("daily_threads")

    /// All four.
    public static let all = [docChunks, events, agentMemories, dailyThreads]
}

extension RecallRequest.Source {
    var collection: VectorCollection {
        switch self {
        case .events: .events
        case .agentMemories: .agentMemories
        case .dailyThreads: .dailyThreads
        }
    }
}

/// Where vectors are searched. A copy that can be lost: the primary store can rebuild it.
protocol VectorStore: Sendable {
    /// The name used in `stored_in`, `/health`, logs and metrics.
    var name: MemoryError.Store { get }

    /// How many batches of points are worth having under way at once; with one writer, the others gather for the next.
    var parallelWrites: Int { get }

    /// Whether a write of a point does nothing where there is a newer version of it, however late it comes.
    var keepsNewest: Bool { get }

    /// Stores points; when it returns, they can be found. The same point again changes nothing.
    func upsert(
        _ points: [VectorPoint], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError)

    /// Removes points; those that are not there count as removed.
    func delete(_ ids: [Int64], in collection: VectorCollection, deadline: Deadline) async throws(MemoryError)

    /// The dense vectors of points; those that are not there are left out.
    func vectors(
        of ids: [Int64], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [Int64: [Float]]

    /// Searches, one answer for each query in the same order.
    func search(
        _ queries: [VectorQuery], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [VectorAnswer]

    /// How many points of a collection a gateway wrote.
    func count(in collection: VectorCollection, deadline: Deadline) async throws(MemoryError) -> Int

    /// The model of some point that another model than this made; nil when there is none.
    func otherModel(
        than model: String, in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> String?

    /// Which of these points there are, and which version of its record each shows.
    func versions(
        of ids: [Int64], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [Int64: Int64]

    /// The ids of points that a gateway wrote, ascending, after a given one. Points of other programs are left out: they are
    /// nobody's to remove.
    func ownIDs(
        in collection: VectorCollection, after id: Int64?, limit: Int, deadline: Deadline
    ) async throws(MemoryError) -> [Int64]

    /// Creates the collections that are missing.
    func setUp(deadline: Deadline) async throws(MemoryError)

    /// Whether the store answers.
    func ping(deadline: Deadline) async throws(MemoryError)

    /// Closes connections.
    func close() async
}

/// A subject's vectors, with the part of it that searches filter and rank by.
struct VectorPoint: Sendable {
    let subject: PointSubject
    /// Unit length, 1536 numbers.
    let dense: [Float]
    let sparse: SparseVector
    /// Which model made the dense vector.
    let model: String
    /// Which version of the subject it shows: how often that was written.
    var version: Int64 = 1
}

extension Sequence<VectorPoint> {
    /// Of points with the same id the newest, and of equally new ones the last.
    func newest() -> [VectorPoint] {
        var places: [Int64: Int] = [:]
        var newest: [VectorPoint] = []
        for point in self {
            guard let place = places[point.subject.id] else {
                places[point.subject.id] = newest.count
                newest.append(point)
                continue
            }
            if newest[place].version <= point.version { newest[place] = point }
        }
        return newest
    }
}

/// A search among one client's points.
struct VectorQuery: Sendable {
    /// Always filtered by: there is no search over all clients.
    var clientID: Int
    /// By meaning, if set.
    var dense: [Float]?
    /// By words, if set.
    var sparse: SparseVector?
    var filter: RecallFilter
    /// Only chunks of this document.
    var documentID: String?
    /// How many candidates of each kind.
    var limit: Int
    /// Expired memories are left out as of this moment.
    var now: Timestamp
}

/// What a search found: two lists, each with the best first.
struct VectorAnswer: Sendable {
    var dense: [VectorCandidate] = []
    var sparse: [VectorCandidate] = []
}

/// A point that was found, with what the ranking needs of it.
struct VectorCandidate: Sendable {
    let id: Int64
    /// The cosine in a dense list, the BM25 score in a sparse one.
    let score: Double
    let session: String?
    let speaker: String?
    let moment: Timestamp?
}
