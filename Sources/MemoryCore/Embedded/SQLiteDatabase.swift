import FoundationEssentials
import GRDB
import Synchronization

/// SQLite through GRDB: one writer, several readers (WAL), every commit on disk before it is answered.
final class SQLiteDatabase: SQLDatabase {
    let name = MemoryError.Store.sqlite
    let parallelWrites = 1

    private let pool: DatabasePool
    private let errors = StoreErrors(.sqlite)
    private let outage: Outage
    private let texts = SQLiteTexts()
    private let lock: Mutex<FileLock?>
    private let folder: String
    /// How many writes the disk has refused since it took one.
    private let refused = Atomic<Int>(0)

    /// After so many refusals in a row the file counts as one that takes no writes.
    private static let mostRefused = 3
    /// With less space than this it is not tried whether it takes them again.
    private static let leastSpace = 1 << 20

    /// A file that was restored from a copy lacks the last rows, and nobody else has it open: each opening is a new history.
    let lineage: UInt64? = UInt64.random(in: .min ... .max)
    /// How many calls wait for their turn.
    private let queued = Atomic(0)

    private static let maxWaiting = 2048

    /// Files up to this size are checked as a whole when they are opened; larger ones page by page, as they are read.
    private static let checkedBytes: Int64 = 32 << 20

    /// Opens a file, or makes it.
    ///
    /// - Throws: ``MemoryError`` with `configuration`, naming the file, when another process uses it, or it is none of
    ///   SQLite's, or damaged. A damaged file is left as it is.
    init(path: String, outage: Outage = .silent) throws(MemoryError) {
        self.outage = outage
        let lock = try FileLock(path: path)
        folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
        var configuration = Configuration()
        configuration.busyMode = .timeout(5)
        // Searches hold six at most: two for each collection. The others never wait for them.
        configuration.maximumReaderCount = 8
        do {
            try Self.check(path)
            pool = try DatabasePool(path: path, configuration: configuration)
            // What was acknowledged must survive the loss of power, not only of the process. GRDB opens WAL with NORMAL.
            try pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
        } catch {
            throw MemoryError(
                .configuration, "\(path) cannot be used: it is damaged, or no SQLite database", store: .sqlite,
                detail: "\(error)")
        }
        self.lock = Mutex(consume lock)
    }

    /// Looks at a file before it is opened for writing, which changes its first page.
    private static func check(_ path: String) throws {
        guard FileManager.default.fileExists(atPath: path) else { return }
        var configuration = Configuration()
        configuration.readonly = true
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        try queue.read { database in
            let pages = try Int64.fetchOne(database, sql: "PRAGMA page_count") ?? 0
            let size = try Int64.fetchOne(database, sql: "PRAGMA page_size") ?? 4096
            guard pages * size <= checkedBytes else { return }
            let finding = try String.fetchOne(database, sql: "PRAGMA quick_check(1)")
            guard finding == "ok" else { throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: finding) }
        }
        try queue.close()
    }

    func read<Value: Sendable>(
        deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        try await noting(writing: false) { () throws(MemoryError) in
            // Not GRDB's own `await`: that ends with the task, and what was begun here is finished whoever hangs up.
            try await waiting(until: deadline, once: .ends) { [pool, texts] call, leave in
                pool.asyncRead { database in
                    leave()
                    guard call.begin() else { return }
                    call.finish(
                        Result { () throws(MemoryError) in
                            do {
                                return try Self.perform(body, SQLiteSession(database.get(), texts), deadline)
                            } catch {
                                throw SQLiteError.translate(error)
                            }
                        })
                }
            }
        }
    }

    func write<Value: Sendable>(
        deadline: Deadline, durable: Bool, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        do throws(MemoryError) {
            return try await noting(writing: true) { () throws(MemoryError) in
                try await waiting(until: deadline, once: .endsUnknown) { [pool, texts, self] call, leave in
                    pool.asyncWriteWithoutTransaction { database in
                        leave()
                        guard call.begin() else { return }
                        call.finish(
                            Result { () throws(MemoryError) in
                                let changes = database.totalChangesCount
                                do {
                                    let value = try Self.inTransaction(database, durable: durable) {
                                        try Self.perform(body, SQLiteSession(database, texts), deadline)
                                    }
                                    // One that changed nothing did not need the disk.
                                    if database.totalChangesCount != changes {
                                        self.refused.store(0, ordering: .relaxed)
                                    }
                                    return value
                                } catch {
                                    let error = SQLiteError.translate(error)
                                    if error.code == .unavailable { self.refused.add(1, ordering: .relaxed) }
                                    throw error
                                }
                            })
                    }
                }
            }
        } catch {
            var error = error
            error.outcome = error.outcome ?? .notStored
            throw error
        }
    }

    /// Waits for what `begin` starts; refuses when too many wait for their turn. `leave` is called when that has come.
    private func waiting<Value: Sendable>(
        until deadline: Deadline, once rule: PendingCall<Value>.Rule,
        _ begin: (PendingCall<Value>, _ leave: @escaping @Sendable () -> Void) -> Void
    ) async throws(MemoryError) -> Value {
        try await PendingCall<Value>.wait(for: .sqlite, until: deadline, once: rule) { call in
            guard queued.wrappingAdd(1, ordering: .relaxed).newValue <= Self.maxWaiting else {
                queued.wrappingSubtract(1, ordering: .relaxed)
                call.finish(.failure(.unavailable(.sqlite, "too many calls are waiting")))
                return false
            }
            begin(call) { [self] in queued.wrappingSubtract(1, ordering: .relaxed) }
            return true
        }
    }

    /// A full disk refuses writes and serves reads. After some refusals this tries by itself, on the first page: whoever asks
    /// here may keep all other writes away until it succeeds.
    func checkWritable(deadline: Deadline) async throws(MemoryError) {
        guard refused.load(ordering: .relaxed) >= Self.mostRefused else { return }
        let space = try? FileManager.default.attributesOfFileSystem(forPath: folder)[.systemFreeSize] as? Int
        guard (space ?? 0) >= Self.leastSpace else { throw .readOnly(.sqlite, "the disk is full") }
        do throws(MemoryError) {
            try await write(deadline: deadline) { session throws(MemoryError) in
                try session.script("PRAGMA user_version = 0")
            }
        } catch {
            throw .readOnly(.sqlite, error.debugDescription)
        }
        refused.store(0, ordering: .relaxed)
    }

    /// Counts and tells what the file is at fault for.
    private func noting<Value: Sendable>(
        writing: Bool, _ call: () async throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        do throws(MemoryError) {
            let value = try await call()
            outage.succeeded(writing: writing)
            return value
        } catch {
            guard !error.isOwnDelay else { throw error }
            errors.count(error)
            if [.unavailable, .timeout].contains(error.code) { outage.failed(error, writing: writing) }
            throw error
        }
    }

    /// Runs a body in a transaction. One that is not durable does not wait for the disk: should power fail, it is lost
    /// together with all that came after it, and the next one that is durable takes it along.
    private static func inTransaction<Value>(
        _ database: Database, durable: Bool, _ body: () throws -> Value
    ) throws -> Value {
        var value: Value?
        if !durable { try database.execute(sql: "PRAGMA synchronous = NORMAL") }
        // The setting cannot change within a transaction, and must never stay.
        defer { if !durable { try? database.execute(sql: "PRAGMA synchronous = FULL") } }
        try database.inTransaction(.immediate) {
            value = try body()
            return .commit
        }
        guard let value else { throw MemoryError.unavailable(.sqlite, "a transaction without a result") }
        return value
    }

    private static func perform<Value>(
        _ body: (any SQLSession) throws(MemoryError) -> Value, _ session: SQLiteSession, _ deadline: Deadline
    ) throws(MemoryError) -> Value {
        guard !deadline.hasPassed else { throw .waited(for: .sqlite) }
        return try body(session)
    }

    func close() async {
        do {
            // One file is left, which can be copied as it is.
            _ = try await pool.writeWithoutTransaction { try $0.checkpoint(.truncate) }
            try pool.close()
        } catch {
            // A reader that is still under way keeps the log; nothing is lost by that, and the next open takes it in.
            pool.interrupt()
        }
        lock.withLock { $0 = nil }
    }
}

/// From SQLite's result codes to ``MemoryError``, in one place.
enum SQLiteError {
    static func translate(_ error: any Error) -> MemoryError {
        if let error = error as? MemoryError { return error }
        guard let error = error as? DatabaseError else { return .unavailable(.sqlite, "\(error)") }
        let code = "sqlite \(error.extendedResultCode.rawValue)"
        switch error.extendedResultCode {
        case .SQLITE_CONSTRAINT_FOREIGNKEY:
            return MemoryError(.unprocessable, "It refers to something that does not exist", driverCode: code)
        case .SQLITE_CONSTRAINT_UNIQUE, .SQLITE_CONSTRAINT_PRIMARYKEY:
            return MemoryError(.conflict, "It exists already", driverCode: code)
        default: break
        }
        switch error.resultCode {
        case .SQLITE_CONSTRAINT, .SQLITE_TOOBIG, .SQLITE_MISMATCH:
            return MemoryError(.invalidRequest, "The primary store refuses this value", driverCode: code)
        default:
            return .unavailable(.sqlite, error.message ?? "\(error.resultCode)", driverCode: code)
        }
    }
}

/// Statements on a GRDB connection, within its queue.
struct SQLiteSession: SQLSession {
    let dialect = SQLDialect.sqlite
    private let database: Database
    private let texts: SQLiteTexts

    init(_ database: Database, _ texts: SQLiteTexts) {
        self.database = database
        self.texts = texts
    }

    func query(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> [SQLRow] {
        do {
            let rows = try Row.fetchAll(try statement(sql, values))
            return rows.map { row in SQLRow(values: row.databaseValues.map(SQLValue.init)) }
        } catch {
            throw SQLiteError.translate(error)
        }
    }

    func execute(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> Int {
        do {
            try statement(sql, values).execute()
            return database.changesCount
        } catch {
            throw SQLiteError.translate(error)
        }
    }

    func script(_ sql: SQL) throws(MemoryError) {
        do {
            try database.execute(sql: sql.text(.sqlite))
        } catch {
            throw SQLiteError.translate(error)
        }
    }

    private func statement(_ sql: SQL, _ values: [SQLValue]) throws -> Statement {
        let statement = try database.cachedStatement(sql: texts.text(sql))
        // Unchecked, because a list that both databases share may end with a value that only PostgreSQL asks for.
        statement.setUncheckedArguments(StatementArguments(values.map(\.databaseValue)))
        return statement
    }
}

/// The texts of statements that were run, each made once.
final class SQLiteTexts: Sendable {
    private let known = Mutex<[SQL: String]>([:])

    func text(_ sql: SQL) -> String {
        known.withLock { known in
            if let text = known[sql] { return text }
            let text = sql.text(.sqlite)
            known[sql] = text
            return text
        }
    }
}

extension SQLValue {
    fileprivate var databaseValue: DatabaseValue {
        switch self {
        case .null: .null
        case .int(let value): value.databaseValue
        case .double(let value): value.databaseValue
        case .text(let value): value.databaseValue
        case .bytes(let value): Data(value).databaseValue
        case .ints(let values): JSON.array(values.map(JSON.int)).encodedText.databaseValue
        case .texts(let values): JSON.array(values.map { $0.map(JSON.string) ?? .null }).encodedText.databaseValue
        }
    }

    fileprivate init(_ value: DatabaseValue) {
        switch value.storage {
        case .null: self = .null
        case .int64(let value): self = .int(value)
        case .double(let value): self = .double(value)
        case .string(let value): self = .text(value)
        case .blob(let value): self = .bytes(Array(value))
        }
    }
}
