import CPostgres
import Glibc

/// The one owner of a libpq connection, in non-blocking mode: every wait ends at a deadline.
///
/// Everything that touches libpq's pointers is here. A handle belongs to one thread.
@safe struct PostgresHandle: ~Copyable {
    private let connection: OpaquePointer
    /// How many warnings the server gave on this connection.
    private let warned: UnsafeMutablePointer<Int>
    /// Asked again and again while an answer is waited for, with how often that was: whether to wait no more.
    var isForsaken: ((_ silences: Int) -> Bool)?

    /// How often ``isForsaken`` is asked.
    static let silence: Duration = .milliseconds(500)

    deinit {
        unsafe PQfinish(connection)
        unsafe warned.deallocate()
    }

    private init(takingOwnershipOf connection: OpaquePointer) {
        unsafe self.connection = connection
        unsafe warned = .allocate(capacity: 1)
        unsafe warned.initialize(to: 0)
        // The default receiver prints what servers say to standard error.
        _ = unsafe PQsetNoticeReceiver(
            connection,
            { count, notice in
                guard let severity = unsafe PQresultErrorField(notice, Int32(UInt8(ascii: "V"))),
                    unsafe strcmp(severity, "WARNING") == 0
                else { return }
                unsafe count?.assumingMemoryBound(to: Int.self).pointee += 1
            }, warned)
    }

    var warnings: Int { unsafe warned.pointee }

    /// How long a transaction may wait for its gateway, which never leaves one waiting: past it the gateway is gone, and
    /// what it had locked, such as an idempotency key, is free for the retry.
    private static let idleInTransaction: Duration = .seconds(2)

    private static func parameters(_ configuration: PostgresConfiguration) -> [(String, String)] {
        let timeout = configuration.statementTimeout.wholeMilliseconds
        let options = [
            "statement_timeout=\(timeout)", "lock_timeout=\(timeout)",
            "idle_in_transaction_session_timeout=\(idleInTransaction.wholeMilliseconds)",
            "client_connection_check_interval=1000", "TimeZone=UTC",
        ]
        var parameters = [
            ("application_name", "memory-gateway"), ("client_encoding", "UTF8"), ("keepalives", "1"),
            ("keepalives_idle", "5"), ("keepalives_interval", "2"), ("keepalives_count", "2"),
            ("tcp_user_timeout", "5000"), ("options", options.map { "-c \($0)" }.joined(separator: " ")),
        ]
        // Before the URI, whose own settings come after it and count.
        if let mode = configuration.sslMode { parameters.append(("sslmode", mode.rawValue)) }
        if let url = configuration.url {
            parameters.append(("dbname", url.revealed))
        } else {
            parameters += [
                ("host", configuration.host), ("port", String(configuration.port)), ("user", configuration.user),
                ("dbname", configuration.database),
            ]
            if let password = configuration.password { parameters.append(("password", password.revealed)) }
        }
        return parameters
    }

    // MARK: Connecting

    static let readable = Int16(POLLIN)
    static let writable = Int16(POLLOUT)

    /// Begins to connect to an address; the socket is ``writable`` when it can go on.
    static func begin(
        _ configuration: PostgresConfiguration, at host: PostgresHost
    ) throws(MemoryError) -> PostgresHandle {
        // A later value takes the place of an earlier one, also of those in the URL.
        let handle = try start(parameters(configuration) + host.parameters)
        // Until it is connected errors come with their SQLSTATE, whatever language the server speaks.
        unsafe PQsetErrorVerbosity(handle.connection, PQERRORS_VERBOSE)
        guard unsafe PQstatus(handle.connection) != CONNECTION_BAD else { throw handle.lost() }
        return handle
    }

    private static func start(_ parameters: [(String, String)]) throws(MemoryError) -> PostgresHandle {
        var keys = unsafe parameters.map { unsafe UnsafePointer(strdup($0.0)) } + [nil]
        var values = unsafe parameters.map { unsafe UnsafePointer(strdup($0.1)) } + [nil]
        defer {
            unsafe Self.release(keys)
            unsafe Self.release(values)
        }
        guard let connection = unsafe PQconnectStartParams(&keys, &values, 1) else {
            throw .unavailable(.postgres, "libpq has no memory for a connection")
        }
        return unsafe PostgresHandle(takingOwnershipOf: connection)
    }

    /// Goes on connecting, without waiting.
    ///
    /// - Returns: what the socket must be ready for before it goes on; nil once it is connected.
    func connectStep() throws(MemoryError) -> Int16? {
        switch unsafe PQconnectPoll(connection) {
        case PGRES_POLLING_READING: return Self.readable
        case PGRES_POLLING_WRITING: return Self.writable
        case PGRES_POLLING_OK:
            unsafe PQsetErrorVerbosity(connection, PQERRORS_DEFAULT)
            unsafe PQsetnonblocking(connection, 1)
            return nil
        default: throw lost()
        }
    }

    var socket: Int32 { unsafe PQsocket(connection) }

    /// Which of these sockets are ready for what they wait for; none when the deadline has passed.
    static func ready(
        _ waits: [(socket: Int32, events: Int16)], _ deadline: Deadline
    ) throws(MemoryError) -> [Bool] {
        var descriptors = waits.map { unsafe pollfd(fd: $0.socket, events: $0.events, revents: 0) }
        let ready = unsafe poll(&descriptors, nfds_t(descriptors.count), deadline.remainingMilliseconds)
        guard ready >= 0 || errno == EINTR else { throw .unavailable(.postgres, "poll: \(errno)") }
        return unsafe descriptors.map { unsafe ready > 0 && $0.revents != 0 }
    }

    /// Sends a text of one statement, as far as that goes without waiting.
    func send(_ sql: String) throws(MemoryError) {
        guard unsafe PQsendQuery(connection, sql) == 1, unsafe PQflush(connection) >= 0 else { throw lost() }
    }

    /// Takes in what has arrived of the answer to ``send(_:)``, without waiting.
    ///
    /// - Returns: whether that is all of it.
    func receive(_ answer: inout PostgresResult?) throws(MemoryError) -> Bool {
        guard unsafe PQconsumeInput(connection) == 1, unsafe PQflush(connection) >= 0 else { throw lost() }
        while unsafe PQisBusy(connection) == 0 {
            guard let pointer = unsafe PQgetResult(connection) else { return true }
            answer = try unsafe PostgresResultHandle(takingOwnershipOf: pointer).outcome().get()
        }
        return false
    }

    /// The error of a connection that is gone.
    private func lost() -> MemoryError {
        let message = unsafe String(cString: PQerrorMessage(connection))
        var error = MemoryError.unavailable(.postgres, message, driverCode: "08006")
        // A wrong password, role or database stays wrong until a person mends it.
        error.isRetriable = !["28000", "28P01", "3D000"].contains { message.contains(" \($0): ") }
        return error
    }

    /// Whoever had less time than this for an answer says nothing of the server.
    private static let fairTime: Int64 = 50_000_000

    /// Waits until the socket is ready. Connect success proves nothing, so each wait has the deadline.
    private func wait(_ events: Int16, _ deadline: Deadline) throws(MemoryError) {
        guard socket >= 0 else { throw lost() }
        var silences = 0
        let start = Pulse.now
        while true {
            var descriptor = pollfd(fd: socket, events: events, revents: 0)
            let limit = isForsaken == nil ? deadline : deadline.capped(at: Self.silence)
            let ready = unsafe poll(&descriptor, 1, limit.remainingMilliseconds)
            if ready > 0 { return }
            guard ready == 0 || errno == EINTR else { throw .unavailable(.postgres, "poll: \(errno)") }
            // It looks once more where the process itself was held up.
            guard ready == 0, limit.hasPassed else { continue }
            if deadline.hasPassed {
                var error = MemoryError.timeout(.postgres, "no answer before the deadline")
                error.isOwnDelay = deadline.wasHeldUp || Pulse.now - start < Self.fairTime
                throw error
            }
            silences += 1
            guard isForsaken?(silences) != true else {
                throw .unavailable(.postgres, "another server has taken over", driverCode: "08006")
            }
        }
    }

    private static func release(_ strings: [UnsafePointer<CChar>?]) {
        unsafe strings.forEach { unsafe free(UnsafeMutablePointer(mutating: $0)) }
    }

    // MARK: Statements

    /// Prepares a statement under a name.
    func prepare(_ name: String, _ sql: String, _ deadline: Deadline) throws(MemoryError) {
        guard unsafe PQsendPrepare(connection, name, sql, 0, nil) == 1 else { throw lost() }
        _ = try results(deadline)
    }

    /// Runs a prepared statement; the values go as text, nil is NULL.
    func run(_ name: String, _ values: [String?], _ deadline: Deadline) throws(MemoryError) -> PostgresResult {
        var pointers = unsafe Self.pointers(values)
        defer { unsafe Self.release(pointers) }
        let sent = unsafe PQsendQueryPrepared(
            connection, name, Int32(clamping: values.count), &pointers, nil, nil, 0)
        guard sent == 1 else { throw lost() }
        return try results(deadline)
    }

    /// Runs a text with values, planned for just these; otherwise as ``run(_:_:_:)``.
    func runOnce(_ sql: String, _ values: [String?], _ deadline: Deadline) throws(MemoryError) -> PostgresResult {
        var pointers = unsafe Self.pointers(values)
        defer { unsafe Self.release(pointers) }
        let sent = unsafe PQsendQueryParams(
            connection, sql, Int32(clamping: values.count), nil, &pointers, nil, nil, 0)
        guard sent == 1 else { throw lost() }
        return try results(deadline)
    }

    private static func pointers(_ values: [String?]) -> [UnsafePointer<CChar>?] {
        unsafe values.map { value in unsafe value.map { unsafe UnsafePointer<CChar>(strdup($0)) } ?? nil }
    }

    /// Runs a text of one or more statements without values; answers the last one's result.
    func runScript(_ sql: String, _ deadline: Deadline) throws(MemoryError) -> PostgresResult {
        guard unsafe PQsendQuery(connection, sql) == 1 else { throw lost() }
        return try results(deadline)
    }

    /// Sends what is left to send, then reads every result up to the end of the statement; the first error is thrown.
    private func results(_ deadline: Deadline) throws(MemoryError) -> PostgresResult {
        try flush(deadline)
        var last = PostgresResult(rows: [], affected: 0)
        var failure: MemoryError?
        while true {
            while unsafe PQisBusy(connection) == 1 {
                try wait(Int16(POLLIN), deadline)
                guard unsafe PQconsumeInput(connection) == 1 else { throw lost() }
            }
            guard let pointer = unsafe PQgetResult(connection) else { break }
            let result = unsafe PostgresResultHandle(takingOwnershipOf: pointer)
            switch result.outcome() {
            case .success(let value): last = value
            case .failure(let error): failure = failure ?? error
            }
        }
        if let failure { throw failure }
        return last
    }

    private func flush(_ deadline: Deadline) throws(MemoryError) {
        while true {
            switch unsafe PQflush(connection) {
            case 0: return
            case 1:
                // libpq asks to read as well, or both ends could wait for each other with full buffers.
                try wait(Int16(POLLIN | POLLOUT), deadline)
                guard unsafe PQconsumeInput(connection) == 1 else { throw lost() }
            default: throw lost()
            }
        }
    }

    /// Whether libpq still thinks that the connection is good and no statement is under way.
    var isUsable: Bool {
        unsafe PQstatus(connection) == CONNECTION_OK && PQtransactionStatus(connection) != PQTRANS_ACTIVE
    }

    /// Whether a transaction is open, or failed and not yet rolled back.
    var isInTransaction: Bool {
        let status = unsafe PQtransactionStatus(connection)
        return status == PQTRANS_INTRANS || status == PQTRANS_INERROR
    }
}

/// What a statement gave.
struct PostgresResult: Sendable {
    let rows: [SQLRow]
    let affected: Int
    /// Whether it was the end of a transaction, and nothing of that was stored.
    var isRollback = false
}

/// The one owner of a libpq result.
@safe private struct PostgresResultHandle: ~Copyable {
    private let result: OpaquePointer

    init(takingOwnershipOf result: OpaquePointer) { unsafe self.result = result }

    deinit { unsafe PQclear(result) }

    func outcome() -> Result<PostgresResult, MemoryError> {
        switch unsafe PQresultStatus(result) {
        case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY, PGRES_SINGLE_TUPLE:
            return .success(PostgresResult(rows: rows(), affected: affected(), isRollback: isRollback))
        default:
            return .failure(error())
        }
    }

    private func error() -> MemoryError {
        let message = unsafe PQresultErrorField(result, Int32(UInt8(ascii: "M"))).map { unsafe String(cString: $0) }
        guard let state = unsafe PQresultErrorField(result, Int32(UInt8(ascii: "C"))) else {
            return .unavailable(.postgres, message ?? "the connection was lost", driverCode: "08006")
        }
        return unsafe PostgresError.translate(state: String(cString: state), message: message ?? "")
    }

    private var isRollback: Bool { unsafe strcmp(PQcmdStatus(result), "ROLLBACK") == 0 }

    private func affected() -> Int { unsafe Int(String(cString: PQcmdTuples(result))) ?? 0 }

    private func rows() -> [SQLRow] {
        let columns = unsafe PQnfields(result)
        let byteaType: Oid = 17
        return unsafe (0..<PQntuples(result)).map { row in
            let values = (0..<columns).map { column -> SQLValue in
                guard unsafe PQgetisnull(result, row, column) == 0, let text = unsafe PQgetvalue(result, row, column)
                else { return .null }
                let string = unsafe String(cString: text)
                return unsafe PQftype(result, column) == byteaType ? .bytes(Self.unhex(string)) : .text(string)
            }
            return SQLRow(values: values)
        }
    }

    /// The bytes of `\x0a1b…`, the server's text form of bytea.
    private static func unhex(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        var high: UInt8?
        for digit in text.utf8.dropFirst(2) {
            let value = digit < 0x3A ? digit &- 0x30 : (digit | 0x20) &- 0x57
            if let first = high {
                bytes.append(first << 4 | value)
                high = nil
            } else {
                high = value
            }
        }
        return bytes
    }
}
