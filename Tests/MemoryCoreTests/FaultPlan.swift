import Logging
import MemoryTestSupport
import Synchronization

@testable import MemoryCore

/// Makes the n-th step between a memory and its stores fail, as curl tests itself: every statement, every commit and every
/// call of a store is one.
final class FaultPlan: Sendable {
    enum Kind: CaseIterable {
        /// It is refused, and did nothing.
        case error
        /// It does nothing, and nobody hears of it.
        case timeout
        /// Its answer means nothing.
        case garbage
        /// It is done, and the answer is lost.
        case cut
    }

    private let state = Mutex<(count: Int, armed: (at: Int, kind: Kind)?, wasHit: Bool)>((0, nil, false))

    func arm(at step: Int, _ kind: Kind) { state.withLock { $0 = (0, (step, kind), false) } }

    /// Lets everything pass again.
    ///
    /// - Returns: whether the step was reached.
    func disarm() -> Bool {
        state.withLock { state in
            defer { state = (0, nil, false) }
            return state.wasHit
        }
    }

    func step() -> Kind? {
        state.withLock { state in
            state.count += 1
            guard let armed = state.armed, armed.at == state.count else { return nil }
            state.wasHit = true
            return armed.kind
        }
    }

    /// Runs a call of a store as one step of the plan.
    func pass<Value>(
        _ store: MemoryError.Store, garbage: (() -> Value)? = nil, _ body: () async throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        switch step() {
        case nil: return try await body()
        case .error: throw .unavailable(store, "refused")
        case .timeout: throw .timeout(store, "silent")
        case .garbage:
            guard let garbage else { throw .badReply(store, "garbage") }
            return garbage()
        case .cut:
            _ = try await body()
            throw .unavailable(store, "cut")
        }
    }
}

extension OpenStores {
    /// The same stores, with a plan between them and whoever uses them.
    func failing(by plan: FaultPlan) -> OpenStores {
        var stores = self
        stores.database = FaultyDatabase(base: database, plan: plan)
        stores.vectors = FaultyVectors(base: vectors, plan: plan)
        stores.shortTerm = FaultyCache(base: shortTerm, plan: plan)
        return stores
    }
}

extension TestWorld {
    /// A memory with a plan between it and its stores, and nothing at work in the background; its tables must be there.
    func withMemory<Result>(
        failingBy plan: FaultPlan, logger: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
        surroundings: any Surroundings = SystemSurroundings(),
        _ test: (Memory) async throws -> Result
    ) async throws -> Result {
        let stores = try await OpenStores(configuration, logger: logger, surroundings: surroundings)
            .failing(by: plan)
        let memory = Memory(
            configuration, stores: stores, embedder: FaultyEmbedder(plan: plan), logger: logger,
            surroundings: surroundings)
        use(memory)
        do {
            let result = try await test(memory)
            await memory.close()
            return result
        } catch {
            await memory.close()
            throw error
        }
    }
}

// MARK: The primary store

private struct FaultyDatabase: SQLDatabase {
    let base: any SQLDatabase
    let plan: FaultPlan
    var name: MemoryError.Store { base.name }
    var parallelWrites: Int { base.parallelWrites }
    var lineage: UInt64? { base.lineage }

    func checkWritable(deadline: Deadline) async throws(MemoryError) {
        try await base.checkWritable(deadline: deadline)
    }

    func read<Value: Sendable>(
        deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        try await base.read(deadline: deadline) { [plan, name] session throws(MemoryError) in
            try body(FaultySession(base: session, plan: plan, name: name))
        }
    }

    func write<Value: Sendable>(
        deadline: Deadline, durable: Bool, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        let answerIsLost = Shared(false)
        let value = try await base.write(deadline: deadline, durable: durable) {
            [plan, name] session throws(MemoryError) in
            if plan.step() != nil { throw MemoryError.unavailable(name, "at begin") }
            let value = try body(FaultySession(base: session, plan: plan, name: name))
            switch plan.step() {
            case nil: break
            case .error: throw MemoryError.unavailable(name, "refused at commit")
            default: answerIsLost.value = true
            }
            return value
        }
        if answerIsLost.value {
            var error = MemoryError.timeout(name, "the answer of COMMIT")
            error.outcome = .unknown
            throw error
        }
        return value
    }

    func close() async { await base.close() }
}

private struct FaultySession: SQLSession {
    let base: any SQLSession
    let plan: FaultPlan
    let name: MemoryError.Store
    var dialect: SQLDialect { base.dialect }

    func query(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> [SQLRow] {
        switch plan.step() {
        case nil: return try base.query(sql, values)
        case .garbage:
            return try base.query(sql, values).map { SQLRow(values: $0.values.map { _ in .text("garbage") }) }
        default: throw .unavailable(name, "a statement")
        }
    }

    func execute(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> Int {
        if plan.step() != nil { throw .unavailable(name, "a statement") }
        return try base.execute(sql, values)
    }

    func script(_ sql: SQL) throws(MemoryError) { try base.script(sql) }
}

// MARK: The copies

private struct FaultyVectors: WrappedVectors {
    let base: any VectorStore
    let plan: FaultPlan

    func upsert(_ points: [VectorPoint], in collection: VectorCollection, deadline: Deadline) async throws(MemoryError)
    {
        try await plan.pass(name) { () throws(MemoryError) in
            try await base.upsert(points, in: collection, deadline: deadline)
        }
    }

    func delete(_ ids: [Int64], in collection: VectorCollection, deadline: Deadline) async throws(MemoryError) {
        try await plan.pass(name) { () throws(MemoryError) in
            try await base.delete(ids, in: collection, deadline: deadline)
        }
    }

    func search(
        _ queries: [VectorQuery], in collection: VectorCollection, deadline: Deadline
    ) async throws(MemoryError) -> [VectorAnswer] {
        // Ids of nobody, and of everybody: from the first to the last there can be.
        let foreign = (1...50).map { VectorCandidate(id: $0 * 997, score: 1, session: nil, speaker: nil, moment: nil) }
        let garbage = queries.map { _ in VectorAnswer(dense: foreign, sparse: foreign.reversed()) }
        return try await plan.pass(name, garbage: { garbage }) { () throws(MemoryError) in
            try await base.search(queries, in: collection, deadline: deadline)
        }
    }
}

private struct FaultyCache: ShortTermStore {
    let base: any ShortTermStore
    let plan: FaultPlan
    var name: MemoryError.Store { base.name }
    var epoch: UInt64? { base.epoch }

    func get(_ keys: [String], deadline: Deadline) async throws(MemoryError) -> ShortTermValues {
        let garbage = ShortTermValues(values: keys.map { Array($0.utf8) }, epoch: 1)
        return try await plan.pass(name, garbage: { garbage }) { () throws(MemoryError) in
            try await base.get(keys, deadline: deadline)
        }
    }

    func set(_ entries: [ShortTermEntry], deadline: Deadline) async throws(MemoryError) {
        try await plan.pass(name) { () throws(MemoryError) in try await base.set(entries, deadline: deadline) }
    }

    func replace(
        removing keys: [String], with entries: [ShortTermEntry], publishing: [ShortTermPublication], deadline: Deadline
    ) async throws(MemoryError) {
        try await plan.pass(name) { () throws(MemoryError) in
            try await base.replace(removing: keys, with: entries, publishing: publishing, deadline: deadline)
        }
    }

    func get(touching key: String, timeToLive: Duration, deadline: Deadline) async throws(MemoryError) -> [UInt8]? {
        try await base.get(touching: key, timeToLive: timeToLive, deadline: deadline)
    }

    func remove(_ keys: [String], deadline: Deadline) async throws(MemoryError) -> Int {
        try await base.remove(keys, deadline: deadline)
    }

    func removeAll(prefix: String, deadline: Deadline) async throws(MemoryError) -> Int {
        try await base.removeAll(prefix: prefix, deadline: deadline)
    }

    func append(
        _ values: [[UInt8]], to key: String, keepingLast count: Int, timeToLive: Duration, deadline: Deadline
    ) async throws(MemoryError) -> Int {
        try await base.append(values, to: key, keepingLast: count, timeToLive: timeToLive, deadline: deadline)
    }

    func last(
        _ count: Int, of key: String, timeToLive: Duration, deadline: Deadline
    ) async throws(MemoryError) -> [[UInt8]] {
        try await base.last(count, of: key, timeToLive: timeToLive, deadline: deadline)
    }

    func take(_ key: String, _ limit: RateLimit, deadline: Deadline) async throws(MemoryError) -> Duration? {
        try await base.take(key, limit, deadline: deadline)
    }

    func evicted(deadline: Deadline) async throws(MemoryError) -> Int { try await base.evicted(deadline: deadline) }
    func ping(deadline: Deadline) async throws(MemoryError) { try await base.ping(deadline: deadline) }
    func close() async { await base.close() }
}

/// An embedder whose batches are steps; of a cut answer the last vectors are missing.
struct FaultyEmbedder: Embedder {
    let base = LexicalEmbedder()
    let plan: FaultPlan
    var model: String { base.model }
    var maxBatch: Int { base.maxBatch }

    func embed(_ texts: [String], deadline: Deadline) async -> [Result<[Float], MemoryError>] {
        let vectors = await base.embed(texts, deadline: deadline)
        switch plan.step() {
        case nil: return vectors
        case .error: return texts.map { _ in .failure(.unavailable(.embeddings, "refused")) }
        case .timeout: return texts.map { _ in .failure(.timeout(.embeddings, "silent")) }
        case .garbage: return texts.map { _ in .failure(.badReply(.embeddings, "not a number", isRetriable: false)) }
        case .cut: return Array(vectors.dropLast())
        }
    }

    func check(deadline: Deadline) async throws(MemoryError) {}
    func close() async {}
}
