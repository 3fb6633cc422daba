import MemoryCore

/// Whose data a request is about, as far as its key allows: the one place where a client that is named becomes a client whose
/// rows are touched.
struct Tenant: Sendable {
    /// Whose rows it may find and change: the client's that is named, else all that the key reaches.
    let owners: Owners
    /// Whose documents it sees: a client's own, and the shared ones where the key may read those.
    let documents: Owners
    /// Whose rows it makes; nil when that cannot be told, because the key has several clients and none is named.
    let owner: Owner?

    /// What belongs to no client.
    static let shared = Tenant(owners: .shared, documents: .shared, owner: .shared)

    private init(owners: Owners, documents: Owners, owner: Owner?) {
        self.owners = owners
        self.documents = documents
        self.owner = owner
    }

    private init(client: Int, _ access: Access) {
        owners = .client(client)
        documents = Owners(.only([client]), includesShared: access.allowsShared(writing: false))
        owner = .client(client)
    }

    /// Of a request that names no client.
    private init(unnamed access: Access, writes: Bool) {
        owners = access.owners(writing: writes)
        // Everyone's documents are nobody's list: who is bound to no client and names none means the shared ones.
        documents = Owners(
            access.clients == .all ? .only([]) : access.clients, includesShared: access.allowsShared(writing: false))
        if let only = access.clients.single {
            owner = .client(only)
        } else {
            owner = access.clients == .all && access.allowsShared(writing: writes) ? .shared : nil
        }
    }

    /// What a request says, read where the endpoint's tenancy has it. A body that is the caller's own data is not looked
    /// into.
    ///
    /// - Throws: ``MemoryError``: `forbidden` when the key does not allow it; `invalid_request` when a client is needed and
    ///   none is named.
    init(
        _ access: Access, _ tenancy: Endpoint.Tenancy, writes: Bool, path: JSONObject, query: JSONObject,
        body: JSONObject
    ) throws(MemoryError) {
        for object in [path, query] { try Self.check(object, access) }
        switch tenancy {
        case .open, .shared: self = .shared
        case .client(let place):
            let object = place == .path ? path : place == .query ? query : body
            try Self.check(object, access)
            guard let client = try Self.clientID(object) ?? access.clients.single else { throw Self.missing }
            self.init(client: client, access)
        case .optionalClient(let place):
            let object = place == .query ? query : body
            try Self.check(object, access)
            let (named, isShared) = (try Self.clientID(object), try Self.flag("shared", object))
            switch (named, isShared) {
            case (.some, true):
                throw MemoryError(invalid: "client_id and shared exclude each other", field: "shared")
            case (let client?, false): self.init(client: client, access)
            case (nil, true):
                guard access.allowsShared(writing: writes) else {
                    throw MemoryError(.forbidden, "This API key may not use what is shared", field: "shared")
                }
                self = .shared
            case (nil, false): self.init(unnamed: access, writes: writes)
            }
        case .clients(let list):
            for item in body[list]?.array ?? [] { if let item = item.object { try Self.check(item, access) } }
            self.init(unnamed: access, writes: writes)
        }
    }

    /// The client of a route that needs one.
    func requiredClient() throws(MemoryError) -> Int {
        guard case .client(let client)? = owner else { throw Self.missing }
        return client
    }

    /// Whose a new row is.
    func requiredOwner() throws(MemoryError) -> Owner {
        guard let owner else { throw Self.missing }
        return owner
    }

    // MARK: Reading

    private static var missing: MemoryError { MemoryError(invalid: "client_id is required", field: "client_id") }

    private static func clientID(_ object: JSONObject) throws(MemoryError) -> Int? {
        let client = try FieldReader(object).int("client_id")
        if let client { try Limits.check(clientID: client) }
        return client
    }

    /// A truth value; in a query it is a text.
    private static func flag(_ name: String, _ object: JSONObject) throws(MemoryError) -> Bool {
        switch FieldReader(object)[name] {
        case nil, .bool(false)?, .string("false")?: return false
        case .bool(true)?, .string("true")?: return true
        default: throw MemoryError(invalid: "\(name) must be true or false", field: name)
        }
    }

    /// A bound key may not even name a client that is not its own.
    private static func check(_ object: JSONObject, _ access: Access) throws(MemoryError) {
        guard case .only(let clients) = access.clients, let named = FieldReader(object)["client_id"] else { return }
        guard let client = named.int.flatMap({ Int(exactly: $0) }), clients.contains(client) else {
            throw MemoryError(.forbidden, "This API key is not for this client", field: "client_id")
        }
    }
}
