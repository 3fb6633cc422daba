/// The text of a statement. Values are always bound, so a text is a literal of the source; the one way around that says so.
///
/// Placeholders are `$1`, `$2`, … . A literal is told from others by its place in the program: finding a prepared statement
/// costs the hash of two addresses, and each text is expanded only where it is prepared.
struct SQL: Sendable, ExpressibleByStringLiteral {
    private let literals: (postgres: StaticString, sqlite: StaticString)
    private let made: String?

    /// A statement that both databases understand. What they say differently is written as a call of ``SQLTerm``:
    /// `#json(payload)`, `#moment($2)`.
    init(stringLiteral text: StaticString) { self.init(postgres: text, sqlite: text) }

    /// A statement that each database says in its own way. In SQLite's a list is bound as a JSON array.
    init(postgres: StaticString, sqlite: StaticString) {
        literals = (postgres, sqlite)
        made = nil
    }

    /// A statement that is no literal, such as a migration file. Never of data from outside.
    init(unsafeText text: String) {
        literals = ("", "")
        made = text
    }

    /// The statement as this database says it.
    func text(_ dialect: SQLDialect) -> String {
        if let made { return made }
        let literal = dialect == .postgres ? literals.postgres : literals.sqlite
        return SQLTerm.expand(literal.description, dialect)
    }
}

extension SQL: Hashable {
    static func == (left: SQL, right: SQL) -> Bool {
        address(left.literals.postgres) == address(right.literals.postgres)
            && address(left.literals.sqlite) == address(right.literals.sqlite) && left.made == right.made
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(Self.address(literals.postgres))
        hasher.combine(Self.address(literals.sqlite))
        if let made { hasher.combine(made) }
    }

    private static func address(_ literal: StaticString) -> Int { unsafe Int(bitPattern: literal.utf8Start) }
}

/// Which database a session speaks to, for the few places where a text of its own is not enough.
enum SQLDialect: Sendable {
    case postgres
    case sqlite
}

/// A value that is bound to a placeholder, or read from a column.
enum SQLValue: Sendable {
    case null
    case int(Int64)
    case double(Double)
    case text(String)
    case bytes([UInt8])
    case ints([Int64])
    case texts([String?])
}

extension SQLValue {
    static func optional(_ text: String?) -> SQLValue { text.map(SQLValue.text) ?? .null }

    static func optional(_ number: Int?) -> SQLValue { number.map { .int(Int64($0)) } ?? .null }

    static func optional(_ number: Double?) -> SQLValue { number.map(SQLValue.double) ?? .null }

    static func optional(_ moment: Timestamp?) -> SQLValue { moment.map { .int($0.microseconds) } ?? .null }

    static func json(_ object: JSONObject) -> SQLValue { .text(object.encodedText) }
}

/// One row of a result. A column of another type than asked for throws, because it means that the schema is not ours.
struct SQLRow: Sendable {
    let values: [SQLValue]

    func int(_ column: Int) throws(MemoryError) -> Int64 {
        switch values[column] {
        case .int(let value): return value
        case .text(let text): if let value = Int64(text) { return value }
        default: break
        }
        throw mismatch(column, "an integer")
    }

    func double(_ column: Int) throws(MemoryError) -> Double {
        switch values[column] {
        case .double(let value): return value
        case .int(let value): return Double(value)
        case .text(let text): if let value = Double(text) { return value }
        default: break
        }
        throw mismatch(column, "a number")
    }

    /// A truth value: `t` in PostgreSQL's text, 1 in SQLite.
    func bool(_ column: Int) throws(MemoryError) -> Bool {
        switch values[column] {
        case .int(let value): value != 0
        case .text(let text): text == "t"
        default: throw mismatch(column, "a truth value")
        }
    }

    func text(_ column: Int) throws(MemoryError) -> String {
        guard let text = optionalText(column) else { throw mismatch(column, "text") }
        return text
    }

    func optionalText(_ column: Int) -> String? {
        if case .text(let text) = values[column] { text } else { nil }
    }

    func bytes(_ column: Int) throws(MemoryError) -> [UInt8] {
        guard case .bytes(let bytes) = values[column] else { throw mismatch(column, "bytes") }
        return bytes
    }

    func optionalInt(_ column: Int) throws(MemoryError) -> Int64? { isNull(column) ? nil : try int(column) }

    func optionalDouble(_ column: Int) throws(MemoryError) -> Double? { isNull(column) ? nil : try double(column) }

    /// A column that ``SQLTerm/time`` gave.
    func timestamp(_ column: Int) throws(MemoryError) -> Timestamp { Timestamp(microseconds: try int(column)) }

    func optionalTimestamp(_ column: Int) throws(MemoryError) -> Timestamp? {
        try optionalInt(column).map { Timestamp(microseconds: $0) }
    }

    /// A column that ``SQLTerm/json`` gave; `null` when it is NULL. Other programs may have written deeper values than our
    /// edge lets in.
    func json(_ column: Int) throws(MemoryError) -> JSON {
        guard let text = optionalText(column) else { return .null }
        guard let json = try? JSON.parse(Array(text.utf8), maxDepth: 128) else { throw mismatch(column, "JSON") }
        return json
    }

    func isNull(_ column: Int) -> Bool {
        if case .null = values[column] { true } else { false }
    }

    private func mismatch(_ column: Int, _ wanted: String) -> MemoryError {
        MemoryError(
            .unavailable, "Primary storage unavailable, please retry", store: .postgres, driverCode: "schema_mismatch",
            detail: "column \(column) is not \(wanted)")
    }
}

/// Statements on one connection, one after the other, on the thread that owns it.
protocol SQLSession {
    var dialect: SQLDialect { get }

    /// Runs a statement and answers its rows.
    func query(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> [SQLRow]

    /// Runs a statement and answers how many rows it touched.
    @discardableResult
    func execute(_ sql: SQL, _ values: [SQLValue]) throws(MemoryError) -> Int

    /// Runs a script of several statements without values.
    func script(_ sql: SQL) throws(MemoryError)
}

/// A database that lends connections. A body runs synchronously on the connection's own thread, so no transaction can
/// wait for anything but its database.
protocol SQLDatabase: Sendable {
    /// The name used in `stored_in`, `/health`, logs and metrics.
    var name: MemoryError.Store { get }

    /// How many transactions are worth having under way at once; with one writer, the others gather for the next.
    var parallelWrites: Int { get }

    /// Lends a connection for reading. The body may run twice, when the connection turned out to be lost.
    func read<Value: Sendable>(
        deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value

    /// Runs the body in a transaction. The body may run again after a conflict or a lost connection, so it must have no
    /// effect outside the database. When it throws, nothing is stored; the error then carries an `outcome`.
    @discardableResult
    func write<Value: Sendable>(
        deadline: Deadline, durable: Bool, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value

    /// Names the history that the records are of, for what is cached of them: another one may lack some of the last. Nil
    /// while nobody knows.
    var lineage: UInt64? { get }

    /// Looks whether writes are taken.
    ///
    /// - Throws: ``MemoryError``, one that `isReadOnly` when the store is there and takes none.
    func checkWritable(deadline: Deadline) async throws(MemoryError)

    /// Gives every connection back, after what was asked for is done.
    func close() async
}

extension SQLDatabase {
    /// That of a database that cannot lose anything, as a test's.
    var lineage: UInt64? { 0 }

    func checkWritable(deadline: Deadline) async throws(MemoryError) {}

    @discardableResult
    func write<Value: Sendable>(
        deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        try await write(deadline: deadline, durable: true, body)
    }
}
