/// A session on one libpq connection: prepared statements by their text, values as text. It belongs to one thread.
final class PostgresConnection: SQLSession {
    let dialect = SQLDialect.postgres

    private var handle: PostgresHandle
    private var known: [SQL: Form] = [:]
    /// When everything that this connection is asked now must be done.
    var deadline: Deadline
    /// What the server said of itself.
    let greeting: PostgresGreeting
    /// The term of the cluster in which the server was good.
    let term: Int
    private let freshUntil = Deadline.after(.seconds(1))

    /// Connects to the best server that answers in time.
    init(
        _ configuration: PostgresConfiguration, _ cluster: PostgresCluster, deadline: Deadline
    ) throws(MemoryError) {
        let limit = deadline.capped(at: configuration.connectTimeout)
        let race = PostgresRace(
            configuration: configuration, hosts: try cluster.addresses(deadline: limit), seen: cluster.history,
            acceptsReadOnly: !cluster.hosts.areSeveral)
        let best = try race.run(deadline: limit)
        guard let greeting = try best.end?.get(), let handle = best.take() else {
            throw .badReply(.postgres, "no greeting")
        }
        self.greeting = greeting
        term = try cluster.take(greeting, at: best.host)
        self.handle = consume handle
        self.deadline = deadline
        guard cluster.hosts.areSeveral else { return }
        self.handle.isForsaken = { [cluster, configuration, term, greeting] silences in
            if cluster.term != term { return true }
            // Two seconds: long enough for a slow statement, short enough for a server that is frozen.
            guard silences % 4 == 0 else { return false }
            return Self.isFollowed(greeting, configuration, cluster)
        }
    }

    /// Whether another server has taken over meanwhile; then connections to this one end.
    private static func isFollowed(
        _ greeting: PostgresGreeting, _ configuration: PostgresConfiguration, _ cluster: PostgresCluster
    ) -> Bool {
        let deadline = Deadline.after(.milliseconds(500))
        do throws(MemoryError) {
            let race = PostgresRace(
                configuration: configuration, hosts: try cluster.addresses(deadline: deadline), seen: cluster.history,
                acceptsReadOnly: false)
            let best = try race.run(deadline: deadline)
            guard let other = try best.end?.get(), greeting.isOlder(than: other.history) else { return false }
            _ = try cluster.take(other, at: best.host)
            return true
        } catch {
            return false
        }
    }

    /// Whether to connect again before the next use: another server is the right one, or this one was a standby a second
    /// ago and may not be one any more.
    func isOutdated(in cluster: PostgresCluster) -> Bool {
        term != cluster.term || (greeting.isStandby && freshUntil.hasPassed)
    }

    var isUsable: Bool { handle.isUsable }

    func query(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> [SQLRow] {
        try run(sql, values).rows
    }

    func execute(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> Int {
        try run(sql, values).affected
    }

    func script(_ sql: SQL) throws(MemoryError) {
        _ = try handle.runScript(sql.text(.postgres), deadline)
    }

    private func run(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> PostgresResult {
        let values = values.map(\.postgresText)
        let form: Form
        if let known = known[sql] { form = known } else { form = try prepare(sql) }
        switch form {
        case .prepared(let name): return try handle.run(name, values, deadline)
        case .plannedEachTime(let text): return try handle.runOnce(text, values, deadline)
        }
    }

    /// How a statement is run.
    private enum Form {
        case prepared(name: String)
        /// One with optional filters, `$1 IS NULL OR …`: a plan for all values cannot use the index that a given value
        /// calls for, and one that was made while the table was small reads all of it for ever.
        case plannedEachTime(text: String)
    }

    private func prepare(_ sql: SQL) throws(MemoryError) -> Form {
        let text = sql.text(.postgres)
        let form: Form
        if text.contains(" IS NULL OR ") {
            form = .plannedEachTime(text: text)
        } else {
            let name = "s\(known.count)"
            try handle.prepare(name, text, deadline)
            form = .prepared(name: name)
        }
        known[sql] = form
        return form
    }

    // MARK: Transactions

    /// Begins a transaction and answers its id, by which its fate can be asked for later.
    func begin(durable: Bool) throws(MemoryError) -> String {
        let begin = durable ? "BEGIN" : "BEGIN; SET LOCAL synchronous_commit = off"
        let result = try handle.runScript("\(begin); SELECT pg_current_xact_id()::text", deadline)
        guard let row = result.rows.first else { throw .badReply(.postgres, "no transaction id") }
        return try row.text(0)
    }

    /// Commits.
    ///
    /// - Returns: whether the server had nothing to warn of: a wait for the standby that was cancelled ends with a warning,
    ///   and the transaction is stored here, but perhaps nowhere else.
    func commit() throws(MemoryError) -> Bool {
        let before = handle.warnings
        let result = try handle.runScript("COMMIT", deadline)
        // A transaction that had failed is rolled back without an error.
        guard !result.isRollback else {
            throw .unavailable(.postgres, "the transaction had failed", driverCode: "25P02")
        }
        return handle.warnings == before
    }

    /// Ends a failed transaction; false when the connection is of no more use.
    func rollback() -> Bool {
        guard handle.isUsable else { return false }
        guard handle.isInTransaction else { return true }
        do {
            _ = try handle.runScript("ROLLBACK", deadline)
            return true
        } catch {
            return false
        }
    }
}

extension SQLValue {
    /// The text form that PostgreSQL reads; nil is NULL.
    var postgresText: String? {
        switch self {
        case .null: nil
        case .int(let value): String(value)
        case .double(let value): value.description
        case .text(let value): value
        case .bytes(let bytes): "\\x" + bytes.hex
        case .ints(let values): "{" + values.map(String.init).joined(separator: ",") + "}"
        case .texts(let values): Self.arrayLiteral(values)
        }
    }

    private static func arrayLiteral(_ values: [String?]) -> String {
        var bytes: [UInt8] = [UInt8(ascii: "{")]
        for (index, value) in values.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            guard let value else {
                bytes.append(contentsOf: "NULL".utf8)
                continue
            }
            bytes.append(UInt8(ascii: "\""))
            for byte in value.utf8 {
                if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { bytes.append(UInt8(ascii: "\\")) }
                bytes.append(byte)
            }
            bytes.append(UInt8(ascii: "\""))
        }
        bytes.append(UInt8(ascii: "}"))
        return String(decoding: bytes, as: UTF8.self)
    }
}
