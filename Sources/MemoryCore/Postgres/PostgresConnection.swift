/// A session on one libpq connection: prepared statements by their text, values as text. It belongs to one thread.
final class PostgresConnection: SQLSession {
    let dialect = SQLDialect.postgres

    private let handle: PostgresHandle
    private var known: [SQL: Form] = [:]
    /// When everything that this connection is asked now must be done.
    var deadline: Deadline
    /// The server's life between two crashes, in which a transaction's id is given once: a crash, and nothing else, resets
    /// its statistics.
    let life: String?

    init(_ configuration: PostgresConfiguration, deadline: Deadline) throws(MemoryError) {
        self.handle = try PostgresHandle.open(
            configuration, deadline: deadline.capped(at: configuration.connectTimeout))
        self.deadline = deadline
        let lives = try handle.runScript("SELECT pg_stat_get_bgwriter_stat_reset_time()::text", deadline)
        life = lives.rows.first?.optionalText(0)
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

    func commit() throws(MemoryError) { _ = try handle.runScript("COMMIT", deadline) }

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
