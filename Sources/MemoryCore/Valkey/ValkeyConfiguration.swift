/// How to reach Valkey (or Redis), and how long to wait for it.
public struct ValkeyConfiguration: Sendable {
    /// The server's name or address.
    public var host = "127.0.0.1"
    /// The server's port, 1...65,535.
    public var port = 6379
    /// The number of the database, 0...15 by default of the server.
    public var database = 0
    /// The ACL user; nil for the default user.
    public var username: String?
    /// The password, if one is needed.
    public var password: Secret?
    /// What every key begins with, so that several systems can share a server.
    public var keyPrefix = "mg"
    /// How many connections to hold for requests, 1...16, beside one for work in the background. Each has a thread of its
    /// own, and pipelines what comes at the same time.
    public var connections = 2
    /// How many commands may wait for one connection; one more fails at once.
    public var maxWaiting = 4096
    /// How long a connection attempt with its handshake may take.
    public var connectTimeout: Duration = .milliseconds(500)

    /// What a connection must say first; nothing when there is no password.
    var authentication: [[String]] {
        guard let password else { return [] }
        return [["AUTH"] + (username.map { [$0] } ?? []) + [password.revealed]]
    }

    /// The defaults: a server on this machine.
    public init() {}
}
