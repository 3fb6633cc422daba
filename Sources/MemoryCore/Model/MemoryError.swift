/// What went wrong, in one shape for every store and every call.
///
/// `description` is safe to show to a stranger: it never holds SQL, host names, memory text or secrets. What the driver
/// said is in ``detail``, for the operator's log.
public struct MemoryError: Error, Sendable {
    /// The kind of failure. A struct, so that codes can be added without breaking a `switch`.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// The machine-readable name, as in the HTTP contract.
        public let description: String

        init(_ description: String) { self.description = description }

        /// The input is malformed or out of range.
        public static let invalidRequest = Code("invalid_request")
        /// There is no such memory for this client.
        public static let notFound = Code("not_found")
        /// A unique key is taken, or an idempotency key was used with another body.
        public static let conflict = Code("conflict")
        /// The content is over its size limit.
        public static let tooLarge = Code("too_large")
        /// Well-formed, but impossible.
        public static let unprocessable = Code("unprocessable")
        /// No key, or one that is not known.
        public static let unauthorized = Code("unauthorized")
        /// A key that does not allow this.
        public static let forbidden = Code("forbidden")
        /// Too many calls; ``MemoryError/retryAfter`` says how long to wait.
        public static let rateLimited = Code("rate_limited")
        /// More is asked for than can be done in time; nothing was begun. ``MemoryError/retryAfter`` says how long to wait.
        public static let overloaded = Code("overloaded")
        /// A store cannot be reached, is overloaded, or refuses to serve.
        public static let unavailable = Code("unavailable")
        /// There is no number left to give to a new record: a person must make the column wider.
        public static let idsExhausted = Code("ids_exhausted")
        /// A deadline passed.
        public static let timeout = Code("timeout")
        /// The settings are wrong: nothing can be done until a person changes them.
        public static let configuration = Code("configuration")
        /// A reply that does not make sense.
        public static let badReply = Code("bad_reply")
    }

    /// The store that failed.
    public struct Store: Sendable, Hashable, CustomStringConvertible {
        /// The name used in logs, metrics, `stored_in` and `/health`.
        public let description: String

        init(_ description: String) { self.description = description }

        /// Whether it is one that holds the truth.
        package var isPrimary: Bool { self == .postgres || self == .sqlite }

        /// PostgreSQL.
        public static let postgres = Store("postgres")
        /// The embedded primary store.
        public static let sqlite = Store("sqlite")
        /// The embedded vector store.
        public static let embeddedVectors = Store("embedded-vectors")
        /// The embedded short-term store.
        public static let memoryCache = Store("memory-cache")
        /// Qdrant.
        public static let qdrant = Store("qdrant")
        /// Valkey.
        public static let valkey = Store("valkey")
        /// The embedding provider.
        public static let embeddings = Store("embeddings")
    }

    /// What became of a write that failed.
    public enum Outcome: String, Sendable, CaseIterable {
        /// Nothing was stored anywhere.
        case notStored = "not_stored"
        /// The commit's answer was lost, and the server could not be asked for the transaction's fate.
        case unknown
    }

    /// The kind of failure.
    public var code: Code
    /// One clear sentence for people.
    public var message: String
    /// The input field that is at fault, if one is.
    public var field: String?
    /// The store that failed, if one did.
    public var store: Store?
    /// What became of a write.
    public var outcome: Outcome?
    /// The driver's own code: an SQLSTATE, a `CURLcode`, an HTTP status.
    public var driverCode: String?
    /// What the driver said. For logs only: it may hold host names or data.
    public var detail: String?
    /// Whether the same call may succeed later without a person changing anything.
    public var isRetriable: Bool
    /// How long the store asked us to wait.
    public var retryAfter: Duration?
    /// Whether the time was lost in this process, before the store had a chance to answer: says nothing of the store.
    package var isOwnDelay = false

    package init(
        _ code: Code, _ message: String, field: String? = nil, store: Store? = nil, driverCode: String? = nil,
        detail: String? = nil, isRetriable: Bool = false, retryAfter: Duration? = nil
    ) {
        self.code = code
        self.message = message
        self.field = field
        self.store = store
        self.driverCode = driverCode
        self.detail = detail
        self.isRetriable = isRetriable
        self.retryAfter = retryAfter
    }
}

extension MemoryError: CustomStringConvertible, CustomDebugStringConvertible {
    /// The sentence for people, without anything internal.
    public var description: String { message }

    /// Everything that is known, for the operator.
    public var debugDescription: String {
        let parts = [
            code.description, store?.description, driverCode, message, detail.map { "(\($0))" },
        ]
        return parts.compactMap { $0 }.joined(separator: " ")
    }
}

extension MemoryError {
    static func invalid(_ message: String, field: String? = nil) -> MemoryError {
        MemoryError(.invalidRequest, message, field: field)
    }

    /// A call that was refused before anything was begun. Seconds are added where it is answered: a moment is enough.
    package static func overloaded(_ message: String) -> MemoryError {
        MemoryError(.overloaded, message, isRetriable: true, retryAfter: .zero)
    }

    static func unavailable(_ store: Store, _ detail: String, driverCode: String? = nil) -> MemoryError {
        let message = store.isPrimary ? "Primary storage unavailable, please retry" : "\(store) is unavailable"
        return MemoryError(
            .unavailable, message, store: store, driverCode: driverCode, detail: detail, isRetriable: true)
    }

    /// The driver code of a store that is there and takes no writes, as PostgreSQL says it.
    static let readOnlyCode = "25006"

    /// The driver code of a refusal to write behind a commit that waits for its standby.
    static let standbyMissingCode = "standby missing"

    /// Whether the store is there and takes no writes.
    var isReadOnly: Bool { driverCode == Self.readOnlyCode }

    static func readOnly(_ store: Store, _ detail: String) -> MemoryError {
        .unavailable(store, detail, driverCode: readOnlyCode)
    }

    static func timeout(_ store: Store, _ detail: String) -> MemoryError {
        MemoryError(
            .timeout, "The deadline passed while waiting for \(store)", store: store, detail: detail, isRetriable: true)
    }

    /// The time was over before the call's turn came: the store was never asked, and nothing was done.
    static func waited(for store: Store) -> MemoryError {
        var error = timeout(store, "waited in the queue")
        error.isOwnDelay = true
        return error
    }

    static func badReply(_ store: Store, _ detail: String, isRetriable: Bool = true) -> MemoryError {
        MemoryError(
            .badReply, "\(store) gave an answer that makes no sense", store: store, detail: detail,
            isRetriable: isRetriable)
    }

    /// The error as ours; one that is not becomes `unavailable` of that store.
    static func wrap(_ error: any Error, store: Store) -> MemoryError {
        error as? MemoryError ?? .unavailable(store, String(describing: error))
    }
}
