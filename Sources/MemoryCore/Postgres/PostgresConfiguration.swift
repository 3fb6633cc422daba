/// How to reach PostgreSQL, and how long to wait for it.
public struct PostgresConfiguration: Sendable {
    /// A connection URI (`postgres://user:password@host:5432/database?sslmode=verify-full`). When set, the five below are
    /// ignored. Of several hosts with commas between, the one that is the primary is used.
    public var url: Secret?
    /// The server's name or address.
    public var host = "127.0.0.1"
    /// The server's port, 1...65,535.
    public var port = 5432
    /// The database.
    public var database = "postgres"
    /// The role.
    public var user = "postgres"
    /// The role's password.
    public var password: Secret?
    /// libpq's `sslmode`, unless the URI has one; nil for libpq's own `prefer`, which goes on without encryption where the
    /// server offers none.
    public var sslMode: SSLMode?
    /// How many connections to hold at most, 1...100. Each has a thread of its own. Work in the background has a quarter of
    /// them at most, and from four on requests leave one to it.
    public var connections = 8
    /// How many calls may wait for a connection; one more fails at once.
    public var maxWaiting = 1024
    /// How long a connection attempt may take.
    public var connectTimeout: Duration = .seconds(2)
    /// What the server allows one statement, `statement_timeout`.
    public var statementTimeout: Duration = .seconds(5)

    /// What is asked of the connection's encryption.
    public enum SSLMode: String, Sendable, CaseIterable {
        /// None.
        case disable
        /// None where the server does not insist.
        case allow
        /// Encryption where the server offers it.
        case prefer
        /// Encryption, whoever the server is.
        case require
        /// Encryption, and a certificate of a known authority.
        case verifyAuthority = "verify-ca"
        /// Encryption, and a certificate of a known authority for the host's name.
        case verifyFull = "verify-full"
    }

    /// The defaults: a server on this machine.
    public init() {}
}
