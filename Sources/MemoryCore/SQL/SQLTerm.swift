/// What the two databases say differently in otherwise equal statements: `#name(argument)` within an ``SQL`` text.
enum SQLTerm: String {
    /// A JSON column, read as text.
    case json
    /// A bound JSON text, for a JSON column.
    case jsonb
    /// A timestamp column, read as microseconds since 1970.
    case time
    /// Bound microseconds since 1970, for a timestamp column.
    case moment
    /// The current moment, for a timestamp column. Its argument is empty.
    case now
    /// A condition: one of a bound list of texts.
    case anyText
    /// A condition: one of a bound list of integers.
    case anyInt
    /// A condition on `event_type`: the row is a record, of any ``RecordKind``.
    case record
    /// A condition on `client_id`: the row belongs to the ``Owners`` whose values are bound as $1 to $4.
    case owned
    /// The collection of a record's vector, by its `event_type`.
    case collection
    /// Until when older writes of an outbox row may be under way: its own, and those of a lease that has not ended yet. Its
    /// argument is the table.
    case held
    /// A bound value whose type PostgreSQL cannot tell from where it stands.
    case int, bigint, text, float, bool

    private func said(_ argument: Substring, _ dialect: SQLDialect) -> String {
        if self == .record {
            // Word for word the condition of the full-text index, or PostgreSQL does not use it.
            return
                "(\(argument) LIKE 'memory:%' OR \(argument) LIKE 'agent_memory:%' OR \(argument) = 'reflection')"
        }
        if self == .owned {
            // One client has a branch of its own, so that PostgreSQL reads its rows in the order of its index. The words
            // `IS NULL OR` have the statement planned with its values, which leaves the one branch that counts.
            let (kind, client) = (SQLTerm.int.said("$1", dialect), SQLTerm.int.said("$2", dialect))
            return """
                (\(SQLTerm.int.said("$4", dialect)) = 1 AND \(argument) IS NULL OR \(kind) = 0 AND \(argument) IS NOT NULL
                    OR \(kind) = 1 AND \(argument) = \(client)
                    OR \(kind) = 2 AND \(argument) \(SQLTerm.anyInt.said("$3", dialect)))
                """
        }
        if self == .collection {
            return """
                CASE WHEN \(argument) LIKE 'agent_memory:%' THEN 'agent_memories'
                    WHEN \(argument) = 'reflection' THEN 'daily_threads' ELSE 'events' END
                """
        }
        guard dialect == .postgres else {
            return switch self {
            case .held:
                """
                CASE WHEN \(argument).due_at > CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)
                    THEN max(coalesce(\(argument).held_until, 0), \(argument).due_at) ELSE \(argument).held_until END
                """
            case .now: "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"
            case .anyText, .anyInt: "IN (SELECT value FROM json_each(\(argument)))"
            default: String(argument)
            }
        }
        return switch self {
        case .json: "\(argument)::text"
        case .jsonb: "\(argument)::jsonb"
        case .time: "(extract(epoch FROM \(argument)) * 1000000)::bigint"
        case .moment: "(timestamp 'epoch' + \(argument)::bigint * interval '1 microsecond')"
        case .held:
            """
            CASE WHEN \(argument).due_at > clock_timestamp()
                THEN greatest(\(argument).held_until, \(argument).due_at) ELSE \(argument).held_until END
            """
        case .now: "(now() AT TIME ZONE 'utc')"
        case .anyText: "= ANY (\(argument)::text[])"
        case .anyInt: "= ANY (\(argument)::bigint[])"
        case .int: "\(argument)::int"
        case .bigint: "\(argument)::bigint"
        case .text: "\(argument)::text"
        case .float: "\(argument)::float8"
        case .bool: "(\(argument)::int <> 0)"
        case .record, .owned, .collection: ""
        }
    }

    /// Replaces every term; a term's argument has no parentheses of its own.
    ///
    /// SQLite numbers `$2` by where it stands, and `?2` by its number, as PostgreSQL does.
    static func expand(_ text: String, _ dialect: SQLDialect) -> String {
        let text = replaceTerms(text, dialect)
        guard dialect == .sqlite else { return text }
        var bytes = Array(text.utf8)
        for place in bytes.indices.dropLast() where bytes[place] == UInt8(ascii: "$") {
            let isNumber = (UInt8(ascii: "1")...UInt8(ascii: "9")).contains(bytes[place + 1])
            if isNumber { bytes[place] = UInt8(ascii: "?") }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func replaceTerms(_ text: String, _ dialect: SQLDialect) -> String {
        guard text.utf8.contains(UInt8(ascii: "#")) else { return text }
        var result = ""
        var rest = text[...]
        while let mark = rest.firstIndex(of: "#") {
            result += rest[..<mark]
            rest = rest[rest.index(after: mark)...]
            guard let open = rest.firstIndex(of: "("), let close = rest[open...].firstIndex(of: ")"),
                let term = SQLTerm(rawValue: String(rest[..<open]))
            else {
                preconditionFailure("No term in \(rest.prefix(20))")
            }
            result += term.said(rest[rest.index(after: open)..<close], dialect)
            rest = rest[rest.index(after: close)...]
        }
        return result + rest
    }
}
