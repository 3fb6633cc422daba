import Synchronization

@testable import MemoryCore

/// A vector store around another; whoever conforms says what is different.
protocol WrappedVectors: VectorStore {
    var base: any VectorStore { get }
}

extension WrappedVectors {
    var name: MemoryError.Store { base.name }
    var parallelWrites: Int { base.parallelWrites }
    var keepsNewest: Bool { base.keepsNewest }

    func search(
        _ queries: [VectorQuery], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [VectorAnswer] {
        try await base.search(queries, in: collection, deadline: deadline)
    }

    func vectors(
        of ids: [Int64], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [Int64: [Float]] {
        try await base.vectors(of: ids, in: collection, deadline: deadline)
    }

    func count(in collection: VectorCollection, deadline: Deadline) async throws(MemoryError) -> Int {
        try await base.count(in: collection, deadline: deadline)
    }

    func otherModel(
        than model: String, in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> String? {
        try await base.otherModel(than: model, in: collection, deadline: deadline)
    }

    func versions(
        of ids: [Int64], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [Int64: Int64] {
        try await base.versions(of: ids, in: collection, deadline: deadline)
    }

    func ownIDs(
        in collection: VectorCollection, after id: Int64?, limit: Int, deadline: Deadline
    ) async throws(MemoryError) -> [Int64] {
        try await base.ownIDs(in: collection, after: id, limit: limit, deadline: deadline)
    }

    func setUp(deadline: Deadline) async throws(MemoryError) { try await base.setUp(deadline: deadline) }
    func ping(deadline: Deadline) async throws(MemoryError) { try await base.ping(deadline: deadline) }
    func close() async { await base.close() }
}

extension VectorStore {
    /// Which of these points there are.
    func existing(
        _ ids: [Int64], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> Set<Int64> {
        Set(try await versions(of: ids, in: collection, deadline: deadline).keys)
    }
}

/// A vector store whose writes a test holds back, applies late, or whose replies it loses.
final class HeldVectors: WrappedVectors {
    /// What becomes of a write.
    enum Fate: CaseIterable {
        /// It is applied, and the reply comes.
        case applied
        /// It is applied, and the reply is lost.
        case replyLost
        /// It is refused, and does nothing.
        case refused
        /// Its caller gives up; it is applied when the test says so.
        case late
    }

    typealias Write = @Sendable () async throws(MemoryError) -> Void

    let base: any VectorStore
    private let decide: @Sendable () async -> Fate
    private let under = Mutex<[Write]>([])

    /// `decide` is asked before each write, and may keep it waiting.
    init(_ base: any VectorStore, deciding decide: @escaping @Sendable () async -> Fate) {
        self.base = base
        self.decide = decide
    }

    /// How many writes are under way of which the caller knows nothing any more.
    var lateCount: Int { under.withLock { $0.count } }

    /// Applies a write that is under way, or loses it.
    func end(_ place: Int, applying: Bool) async throws {
        let write = under.withLock { $0.remove(at: place) }
        if applying { try await write() }
    }

    func upsert(
        _ points: [VectorPoint], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) {
        try await pass { [base] () throws(MemoryError) in
            try await base.upsert(points, in: collection, deadline: .after(.seconds(60)))
        }
    }

    func delete(_ ids: [Int64], in collection: VectorCollection, deadline: Deadline) async throws(MemoryError) {
        try await pass { [base] () throws(MemoryError) in
            try await base.delete(ids, in: collection, deadline: .after(.seconds(60)))
        }
    }

    private func pass(_ write: @escaping Write) async throws(MemoryError) {
        switch await decide() {
        case .applied: try await write()
        case .replyLost:
            try await write()
            throw .timeout(name, "a reply that was lost")
        case .refused: throw .unavailable(name, "refused")
        case .late:
            under.withLock { $0.append(write) }
            throw .timeout(name, "under way")
        }
    }
}

/// A primary store before whose every transaction a test may do something.
struct GatedDatabase: SQLDatabase {
    let base: any SQLDatabase
    let before: @Sendable () async throws(MemoryError) -> Void
    var name: MemoryError.Store { base.name }
    var parallelWrites: Int { base.parallelWrites }

    func read<Value: Sendable>(
        deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        try await before()
        return try await base.read(deadline: .after(.seconds(60)), body)
    }

    func write<Value: Sendable>(
        deadline: Deadline, durable: Bool, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        try await before()
        return try await base.write(deadline: .after(.seconds(60)), durable: durable, body)
    }

    func close() async { await base.close() }
}
