extension Memory {
    /// How long a session lasts without being touched.
    private static let sessionLife: Duration = .seconds(24 * 3600)
    /// How many messages a session keeps; the oldest go.
    static let maxSessionMessages = 1000
    private static let stateBytes = 256 << 10

    /// Adds messages to a session, 1...100 at once. Its cost does not depend on the length of the session.
    ///
    /// - Returns: how many messages the session has now.
    /// - Throws: ``MemoryError``: `invalid_request`; `unavailable` when short-term memory is away.
    @discardableResult
    public func append(
        _ messages: [SessionMessage], to session: String, client: Int
    ) async throws(MemoryError) -> Int {
        guard (1...100).contains(messages.count) else {
            throw .invalid("messages must be between 1 and 100", field: "messages")
        }
        for message in messages { try message.validate() }
        let key = try await messagesKey(session, client)
        let now = surroundings.now
        let values = messages.map { message in
            var message = message
            message.createdAt = now
            return CacheEnvelope.seal(message.json.encoded, clientID: client, key: key)
        }
        return try await cache.store.append(
            values, to: key, keepingLast: Self.maxSessionMessages, timeToLive: Self.sessionLife,
            deadline: sessionDeadline)
    }

    /// The last messages of a session, oldest first; none when there is no such session.
    ///
    /// `last`: how many, 1...1,000.
    public func messages(
        of session: String, client: Int, last: Int = 20
    ) async throws(MemoryError) -> [SessionMessage] {
        guard (1...Self.maxSessionMessages).contains(last) else {
            throw .invalid("last must be between 1 and \(Self.maxSessionMessages)", field: "last")
        }
        let key = try await messagesKey(session, client)
        let values = try await cache.store.last(
            last, of: key, timeToLive: Self.sessionLife, deadline: sessionDeadline)
        return values.compactMap { value in
            CacheEnvelope.open(value, clientID: client, key: key).flatMap { SessionMessage(encoded: $0.payload) }
        }
    }

    /// The state of a session.
    ///
    /// - Throws: ``MemoryError`` with `not_found` when there is none.
    public func state(of session: String, client: Int) async throws(MemoryError) -> JSONObject {
        let key = try await stateKey(session, client)
        let value = try await cache.store.get(touching: key, timeToLive: Self.sessionLife, deadline: sessionDeadline)
        guard let value, let payload = CacheEnvelope.open(value, clientID: client, key: key)?.payload,
            let state = (try? JSON.parse(payload, maxDepth: 128))?.object
        else { throw Self.missing }
        return state
    }

    /// Keeps the state of a session, in the place of what there was: at most 256 KiB of JSON.
    public func setState(_ state: JSONObject, of session: String, client: Int) async throws(MemoryError) {
        try Limits.check(metadata: state, field: "state", maxBytes: Self.stateBytes)
        let key = try await stateKey(session, client)
        let value = CacheEnvelope.seal(state.encoded, clientID: client, key: key)
        try await cache.store.set(
            [ShortTermEntry(key: key, value: value, timeToLive: Self.sessionLife)], deadline: sessionDeadline)
    }

    /// Forgets the state of a session.
    ///
    /// - Throws: ``MemoryError`` with `not_found` when there is none.
    public func deleteState(of session: String, client: Int) async throws(MemoryError) {
        let key = try await stateKey(session, client)
        guard try await cache.store.remove([key], deadline: sessionDeadline) > 0 else { throw Self.missing }
    }

    /// Forgets a session: its messages and its state.
    ///
    /// - Throws: ``MemoryError`` with `not_found` when there is none.
    public func deleteSession(_ session: String, client: Int) async throws(MemoryError) {
        let keys = [try await messagesKey(session, client), try await stateKey(session, client)]
        guard try await cache.store.remove(keys, deadline: sessionDeadline) > 0 else { throw Self.missing }
    }

    private var sessionDeadline: Deadline { .after(configuration.budgets.recall) }

    private func messagesKey(_ session: String, _ client: Int) async throws(MemoryError) -> String {
        try await key("messages", session, client)
    }

    private func stateKey(_ session: String, _ client: Int) async throws(MemoryError) -> String {
        try await key("state", session, client)
    }

    /// The key of a part of a session; refused while an erasure of the client is owed.
    private func key(_ kind: String, _ session: String, _ client: Int) async throws(MemoryError) -> String {
        try Limits.check(clientID: client)
        try Limits.check(session, "session_id", maxBytes: Limits.identifierBytes)
        try await erasures.admit(client)
        return "\(cache.prefix(of: client))session-\(kind):\(session)"
    }
}
