/// Brings a database to the schema of `migrations/`: each file in a transaction of its own, under an advisory lock,
/// recorded with its checksum. Forward only.
struct Migrator: Sendable {
    let database: any SQLDatabase
    let files: [BundledFile]

    /// A migrator of these files, or of those that are made for the database.
    init(database: any SQLDatabase, files: [BundledFile]? = nil) {
        self.database = database
        self.files = files ?? (database.name == .sqlite ? BundledFiles.sqliteMigrations : BundledFiles.migrations)
    }

    /// A file, and whether it was applied before, now, or (in a dry run) would be.
    struct Step: Sendable, Equatable {
        enum State: String, Sendable { case applied, present, pending }
        let name: String
        let state: State
    }

    /// An arbitrary number that only migrations of this project lock.
    private static let lock: Int64 = 0x6D67_6D69_6772

    /// Applies what is missing; a dry run changes nothing, and says what would be applied.
    ///
    /// - Throws: ``MemoryError`` with `configuration` when the recorded history is not that of the files.
    func run(dryRun: Bool = false, deadline: Deadline) async throws(MemoryError) -> [Step] {
        let history = try await database.read(deadline: deadline) { session throws(MemoryError) in
            try Self.history(session)
        }
        var steps = try Self.plan(files, history)
        guard !dryRun else { return steps }
        for (index, file) in files.enumerated() where steps[index].state == .pending {
            let applied = try await apply(file, deadline)
            steps[index] = Step(name: file.name, state: applied ? .applied : .present)
        }
        return steps
    }

    private func apply(_ file: BundledFile, _ deadline: Deadline) async throws(MemoryError) -> Bool {
        let files = files
        return try await database.write(deadline: deadline) { session throws(MemoryError) in
            try Self.prepare(session)
            // Another gateway may have been faster.
            let steps = try Self.plan(files, try Self.history(session))
            guard steps.contains(Step(name: file.name, state: .pending)) else { return false }
            try session.script(
                """
                CREATE TABLE IF NOT EXISTS schema_migrations (
                    name TEXT PRIMARY KEY, checksum TEXT NOT NULL, applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)
                """)
            do throws(MemoryError) {
                try session.script(SQL(unsafeText: file.text))
            } catch {
                throw MemoryError(
                    .configuration, "Migration \(file.name) failed", store: .postgres, driverCode: error.driverCode,
                    detail: error.detail)
            }
            try session.execute(
                "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)",
                [.text(file.name), .text(file.checksum)])
            return true
        }
    }

    /// SQLite's one writer needs neither a lock nor more time.
    private static func prepare(_ session: any SQLSession) throws(MemoryError) {
        guard session.dialect == .postgres else { return }
        // Building an index may take longer than any statement of a request may.
        try session.script("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        _ = try session.query("SELECT pg_advisory_xact_lock($1)", [.int(Self.lock)])
    }

    /// The recorded names and checksums; empty before the first migration.
    private static func history(_ session: any SQLSession) throws(MemoryError) -> [(name: String, checksum: String)] {
        // By a scan: `to_regclass` may answer from a cache that another gateway's commit has not reached.
        let exists = try session.query(
            SQL(
                postgres: """
                    SELECT EXISTS (
                        SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_migrations')
                    """,
                sqlite: "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations')"), [])
        guard let row = exists.first, try row.bool(0) else { return [] }
        var history: [(String, String)] = []
        for row in try session.query("SELECT name, checksum FROM schema_migrations", []) {
            history.append((try row.text(0), try row.text(1)))
        }
        return history
    }

    /// Compares the files with the history: it must be the files' beginning, unchanged.
    private static func plan(
        _ files: [BundledFile], _ history: [(name: String, checksum: String)]
    ) throws(MemoryError) -> [Step] {
        let byName = Dictionary(files.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        for (name, checksum) in history {
            guard let file = byName[name] else {
                throw refused("\(name) was applied to this database, but this version does not have it")
            }
            guard file.checksum == checksum else { throw refused("\(name) was changed after it had been applied") }
        }
        let applied = Set(history.map(\.name))
        let steps = files.map { Step(name: $0.name, state: applied.contains($0.name) ? .present : .pending) }
        if let gap = steps.firstIndex(where: { $0.state == .pending }),
            let later = steps[gap...].first(where: { $0.state == .present })
        {
            throw refused("\(steps[gap].name) is missing, but \(later.name), which comes after it, was applied")
        }
        return steps
    }

    private static func refused(_ reason: String) -> MemoryError {
        MemoryError(.configuration, "Migration history refused: \(reason)", store: .postgres)
    }
}

extension BundledFile {
    var checksum: String { sha256(text).hex }
}
