extension Memory {
    /// Creates a key. The text is answered once and stored nowhere.
    public func createKey(_ draft: APIKeyDraft) async throws(MemoryError) -> (key: APIKey, text: Secret) {
        try draft.validate()
        let text = KeyText.make()
        let key = try await write { session throws(MemoryError) in
            try KeyRepository(session: session).insert(draft, key: text)
        }
        keys.refresh()
        return (key, text)
    }

    /// Every key there is, newest first, the revoked ones included.
    public func apiKeys() async throws(MemoryError) -> [APIKey] {
        try await read { session throws(MemoryError) in try KeyRepository(session: session).keys() }
    }

    /// Ends a key: here at once, in other gateways within ten seconds. The end of the last one opens nothing: then every
    /// call is refused until there is a new one.
    ///
    /// - Returns: how many keys of the store still let somebody in.
    /// - Throws: ``MemoryError`` with `not_found` when there is no such key, or it was revoked before.
    @discardableResult
    public func revokeKey(_ id: Int64) async throws(MemoryError) -> Int {
        let now = surroundings.now
        let left = try await write { session throws(MemoryError) -> Int? in
            let keys = KeyRepository(session: session)
            guard try keys.revoke(id) else { return nil }
            return try keys.keys().count { $0.isLive(at: now) }
        }
        keys.refresh()
        return try Self.found(left)
    }

    /// Whether there has never been a key, so that everyone may do everything; false while nobody knows.
    public func isOpen() async throws(MemoryError) -> Bool {
        do throws(MemoryError) {
            return try await keys.isOpen()
        } catch {
            guard error.code != .configuration else { throw error }
            return false
        }
    }

    /// What a presented key allows; everything, where there has never been a key in the settings or the store.
    ///
    /// - Throws: ``MemoryError``: `unauthorized`; `unavailable` while the keys could not be read even once.
    public func access(_ presentedKey: String?) async throws(MemoryError) -> Access {
        try await keys.access(presentedKey)
    }

    /// Counts a call of someone against a rate, together with all gateways on the same short-term store; alone while that
    /// store is away.
    ///
    /// - Returns: nil when the call conforms, else how long to wait.
    public func take(_ caller: String, _ limit: RateLimit) async -> Duration? {
        let key = cache.rateKey(caller)
        do throws(MemoryError) {
            return try await cache.store.take(key, limit, deadline: .after(configuration.budgets.countCall))
        } catch {
            return try? await localRates.take(key, limit, deadline: .after(.seconds(1)))
        }
    }
}
