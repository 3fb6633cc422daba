/// Whose something is.
public enum Owner: Sendable, Hashable {
    /// A client's: the tenant's own.
    case client(Int)
    /// No client's: everyone who may use shared data sees it.
    case shared

    /// The client; nil for what is shared, as in the column `client_id`.
    public var clientID: Int? {
        switch self {
        case .client(let id): id
        case .shared: nil
        }
    }

    func validate() throws(MemoryError) {
        if let clientID { try Limits.check(clientID: clientID) }
    }
}

/// Some clients, or all of them. No optional: what is left out must be a mistake of the compiler's finding, not everyone.
public enum Clients: Sendable, Hashable {
    /// Every client.
    case all
    /// These alone.
    case only(Set<Int>)

    /// Whether a client is among them.
    public func contains(_ client: Int) -> Bool {
        switch self {
        case .all: true
        case .only(let clients): clients.contains(client)
        }
    }

    /// The client, when there is exactly one.
    public var single: Int? {
        if case .only(let clients) = self, clients.count == 1 { clients.first } else { nil }
    }
}

/// Whose data a call may find and change.
public struct Owners: Sendable, Hashable {
    /// The clients whose data it is.
    public let clients: Clients
    /// Whether it is also what belongs to no client.
    public let includesShared: Bool

    /// The data of these clients, and the shared data if that is said.
    public init(_ clients: Clients, includesShared: Bool) {
        self.clients = clients
        self.includesShared = includesShared
    }

    /// Everything there is.
    public static let anyone = Owners(.all, includesShared: true)
    /// What belongs to no client.
    public static let shared = Owners(.only([]), includesShared: true)

    /// One client's own.
    public static func client(_ id: Int) -> Owners { Owners(.only([id]), includesShared: false) }

    func validate() throws(MemoryError) {
        guard case .only(let clients) = clients else { return }
        for client in clients { try Limits.check(clientID: client) }
    }

    /// What ``SQLTerm/owned`` wants as the first four values: 0 for all clients, 1 for one, 2 for a list; the client; the
    /// list; whether shared rows count.
    var values: [SQLValue] {
        let shared = SQLValue.int(includesShared ? 1 : 0)
        guard case .only(let clients) = clients else { return [.int(0), .null, .null, shared] }
        if let client = clients.first, clients.count == 1 { return [.int(1), .int(Int64(client)), .null, shared] }
        return [.int(2), .null, .ints(clients.sorted().map(Int64.init)), shared]
    }
}
