import Foundation
import MemoryTestSupport
import Synchronization
import Testing

@testable import MemoryCore

/// Embedded vectors in memory, while others write.
@Suite("Embedded vectors in memory")
struct VectorBlockTests {
    private static var soon: Deadline { .after(.seconds(30)) }

    /// A database that counts how often vectors are read from the file, and lets a test write in the middle of it.
    private final class Watched: SQLDatabase {
        let base: SQLiteDatabase
        let reads = Shared(0)
        /// What happens, once, after vectors were read from the file and before they are kept.
        let meanwhile = Shared<(@Sendable () async throws -> Void)?>(nil)
        var name: MemoryError.Store { base.name }
        var parallelWrites: Int { base.parallelWrites }

        init(_ base: SQLiteDatabase) { self.base = base }

        func read<Value: Sendable>(
            deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
        ) async throws(MemoryError) -> Value {
            try await base.read(deadline: deadline) { session throws(MemoryError) in
                try body(Session(base: session, watched: self))
            }
        }

        func write<Value: Sendable>(
            deadline: Deadline, durable: Bool, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
        ) async throws(MemoryError) -> Value {
            try await base.write(deadline: deadline, durable: durable, body)
        }

        func close() async { await base.close() }

        private struct Session: SQLSession {
            let base: any SQLSession
            let watched: Watched
            var dialect: SQLDialect { base.dialect }

            func query(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> [SQLRow] {
                let rows = try base.query(sql, values)
                guard sql.text(.sqlite).hasPrefix("SELECT id, dense FROM vector_points WHERE client_id") else {
                    return rows
                }
                watched.reads.withLock { $0 += 1 }
                let meanwhile = watched.meanwhile.withLock { meanwhile in
                    defer { meanwhile = nil }
                    return meanwhile
                }
                guard let meanwhile else { return rows }
                // The reader's own thread waits, as it would for a slow disk.
                let done = DispatchSemaphore(value: 0)
                Task {
                    try await meanwhile()
                    done.signal()
                }
                done.wait()
                return rows
            }

            func execute(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> Int { try base.execute(sql, values) }

            func script(_ sql: SQL) throws(MemoryError) { try base.script(sql) }
        }
    }

    private static func point(_ id: Int64, client: Int = 1, _ dense: [Float]) throws -> VectorPoint {
        let record = MemoryRecord(
            MemoryDraft(clientID: client, content: "memory \(id)"), id: id, createdAt: .now)
        return VectorPoint(
            subject: .record(record), dense: try VectorMath.normalised(dense), sparse: .document(record.content),
            model: "m")
    }

    /// The ids that a client's search finds, the nearest first.
    private static func found(_ store: EmbeddedVectorStore, client: Int = 1) async throws -> [Int64] {
        let query = VectorQuery(
            clientID: client, dense: try VectorMath.normalised([1, 0]), filter: RecallFilter(), limit: 10, now: .now)
        return try await store.search([query], in: .events, deadline: soon)[0].dense.map(\.id)
    }

    /// Runs a test with a store whose file has two vectors of client 1, none of them in memory.
    private func with(_ test: (EmbeddedVectorStore, Watched) async throws -> Void) async throws {
        try await TestWorld.with(.embedded) { world async throws in
            try FileManager.default.createDirectory(atPath: world.folder, withIntermediateDirectories: true)
            let database = Watched(try SQLiteDatabase(path: world.configuration.embedded.path))
            _ = try await Migrator(database: database).run(deadline: Self.soon)
            let writer = EmbeddedVectorStore(database, maxCacheBytes: 1 << 20, ownsDatabase: false)
            try await writer.upsert(
                [try Self.point(1, [1, 0]), try Self.point(2, [1, 1])], in: .events, deadline: Self.soon)
            try await test(EmbeddedVectorStore(database, maxCacheBytes: 1 << 20, ownsDatabase: false), database)
            await database.close()
        }
    }

    @Test("Another client's writes keep nobody's vectors out of memory", .timeLimit(.minutes(5)))
    func others() async throws {
        try await with { store, database async throws in
            database.meanwhile.value = {
                try await store.upsert([try Self.point(3, client: 2, [1, 0])], in: .events, deadline: Self.soon)
                try await store.upsert([try Self.point(4, client: 1, [1, 0])], in: .agentMemories, deadline: Self.soon)
            }
            #expect(try await Self.found(store) == [1, 2])
            #expect(try await Self.found(store) == [1, 2])
            #expect(database.reads.value == 1)
        }
    }

    @Test("What a client writes while its vectors are read is in memory with them", .timeLimit(.minutes(5)))
    func own() async throws {
        try await with { store, database async throws in
            database.meanwhile.value = {
                try await store.upsert([try Self.point(3, [1, 0.1])], in: .events, deadline: Self.soon)
                try await store.delete([1], in: .events, deadline: Self.soon)
                try await store.upsert(
                    [try Self.point(2, [0, 1]), try Self.point(4, [1, 2])], in: .events, deadline: Self.soon)
                try await store.delete([4], in: .events, deadline: Self.soon)
            }
            // What was read is the file as it was.
            #expect(try await Self.found(store) == [1, 2])
            #expect(try await Self.found(store) == [3, 2])
            #expect(database.reads.value == 1)
            try await store.upsert([try Self.point(1, [1, 0])], in: .events, deadline: Self.soon)
            #expect(try await Self.found(store) == [1, 3, 2])
            #expect(database.reads.value == 1)
        }
    }

    @Test("Where more is written than is noted, the file is read again, and nothing is missed", .timeLimit(.minutes(5)))
    func beyondMeasure() async throws {
        try await with { store, database async throws in
            database.meanwhile.value = {
                for _ in 0..<3 {
                    try await store.delete(Array(10...2000), in: .events, deadline: Self.soon)
                    try await store.upsert(
                        try (10..<2000).map { try Self.point($0, [0, 1]) }, in: .events, deadline: Self.soon)
                }
                try await store.upsert([try Self.point(3, [1, 0.1])], in: .events, deadline: Self.soon)
            }
            #expect(try await Self.found(store) == [1, 2])
            #expect(try await Self.found(store).prefix(3) == [1, 3, 2])
            #expect(database.reads.value == 2)
        }
    }
}
