import MemoryTestSupport
import Testing

@testable import MemoryCore

/// An exact search ends with its deadline, however much there is to look at.
@Suite("Deadlines within exact search")
struct SearchDeadlineTests {
    /// A database in which each statement takes until the deadline, and each page of vectors is full.
    private struct EndlessDatabase: SQLDatabase, SQLSession {
        let name = MemoryError.Store.sqlite
        let parallelWrites = 1
        let dialect = SQLDialect.sqlite
        let deadline: Deadline
        let statements = Shared(0)

        func query(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> [SQLRow] {
            let count = statements.withLock { count in
                count += 1
                return count
            }
            // The first statement looks for what has expired; the second is the one that takes its time.
            guard count > 1 else { return [] }
            while !deadline.hasPassed { pauseThread(.milliseconds(1)) }
            guard count < 50 else { throw .unavailable(name, "it was never looked at the deadline") }
            return (0..<2000).map { row in
                SQLRow(values: [
                    .int(Int64(count * 2000 + row)), .bytes(CompactVectors.encode([Float](repeating: 1, count: 4))),
                ])
            }
        }

        func execute(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> Int { 0 }
        func script(_ sql: SQL) throws(MemoryError) {}

        func read<Value: Sendable>(
            deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
        ) async throws(MemoryError) -> Value { try body(self) }

        func write<Value: Sendable>(
            deadline: Deadline, durable: Bool, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
        ) async throws(MemoryError) -> Value { try body(self) }

        func close() async {}
    }

    @Test("Pages of vectors and words are read until the deadline, and no further", arguments: [true, false])
    func pages(_ isDense: Bool) async throws {
        let deadline = Deadline.after(.milliseconds(50))
        let database = EndlessDatabase(deadline: deadline)
        let store = EmbeddedVectorStore(database, maxCacheBytes: 1 << 20, ownsDatabase: true)
        let query = VectorQuery(
            clientID: 1, dense: isDense ? [Float](repeating: 0.1, count: 1536) : nil,
            sparse: isDense ? nil : .query("one two three four five six seven"), filter: RecallFilter(), limit: 10,
            now: .now)
        let error = await #expect(throws: MemoryError.self) {
            try await store.search([query], in: .events, deadline: deadline)
        }
        #expect(error?.code == .timeout)
        #expect(database.statements.value == 2)
    }
}
