import Logging
import Synchronization

/// Knows the keys: those of the settings, and those of the primary store, which it looks at again every few seconds. A
/// revoked key ends within that time; a new one works at once, because an unknown one is looked for.
///
/// Without keys everything is open, but the end of keys opens nothing: any row of `api_keys`, live or not, means closed,
/// and a process that has seen one stays closed for the rest of its life, even when the rows go (a restored dump).
final class KeyRing: Sendable {
    private struct Entry {
        let hash: [UInt8]
        let access: Access
        let expiresAt: Timestamp?

        func isLive(at moment: Timestamp) -> Bool { expiresAt.map { $0 > moment } ?? true }
    }

    private struct State {
        /// The keys of the store that let somebody in.
        var entries: [Entry] = []
        var isLoaded = false
        /// Whether this process has ever seen a key in the store.
        var hasSeenKeys = false
        /// Whether it was said that the last key has ended.
        var hasSaidEnd = false
        var freshUntil: ContinuousClock.Instant
        var mayLookAgain: ContinuousClock.Instant
    }

    /// For how long keys are not looked at again; a revocation is known everywhere after this.
    private static let life: Duration = .seconds(10)
    /// How often unknown keys make us look, at most.
    private static let pause: Duration = .milliseconds(500)

    private let database: any SQLDatabase
    private let logger: Logger
    private let surroundings: any Surroundings
    private let fixed: [Entry]
    private let state: Mutex<State>
    private let loads = SingleFlight<String, Bool>()

    /// `keys`: the keys of the settings, each for everything.
    init(database: any SQLDatabase, keys: [Secret], logger: Logger, surroundings: any Surroundings) {
        self.database = database
        self.logger = logger
        self.surroundings = surroundings
        state = Mutex(State(freshUntil: surroundings.instant, mayLookAgain: surroundings.instant))
        fixed = keys.enumerated().map { index, key in
            Entry(
                hash: sha256(plain: key.revealed),
                access: Access(keyID: "settings-\(index + 1)", clients: .all, canWrite: true, sharing: .write),
                expiresAt: nil)
        }
    }

    /// What a presented key allows; where there has never been a key, everything.
    ///
    /// - Throws: ``MemoryError``: `unauthorized`; `unavailable` while the keys could not be read even once.
    func access(_ presented: String?) async throws(MemoryError) -> Access {
        guard let presented else {
            if fixed.isEmpty, try await isOpen() { return .open }
            sayEnd()
            throw MemoryError(.unauthorized, "An API key is required")
        }
        let hash = sha256(plain: presented)
        // Keys of the settings do not need the store.
        if let access = find(hash, fixed) { return access }
        let entries = try await current()
        if let access = find(hash, entries) { return access }
        if KeyText.isWellFormed(presented), mayLookAgain(), let access = find(hash, try await reload()) {
            return access
        }
        if try await isOpen() { return .open }
        sayEnd()
        throw MemoryError(.unauthorized, "The API key is not known")
    }

    /// Whether there has never been a key.
    func isOpen() async throws(MemoryError) -> Bool {
        guard fixed.isEmpty else { return false }
        _ = try await current()
        return state.withLock { !$0.hasSeenKeys }
    }

    /// Says that nobody gets in any more; once, until there is a key again.
    private func sayEnd() {
        let now = surroundings.now
        let hasEnded =
            fixed.isEmpty
            && state.withLock { state -> Bool in
                let isNew = state.hasSeenKeys && !state.hasSaidEnd && !state.entries.contains { $0.isLive(at: now) }
                if isNew { state.hasSaidEnd = true }
                return isNew
            }
        guard hasEnded else { return }
        logger.warning("The last API key has ended: every call is refused until there is a new one (keys create)")
    }

    /// Forgets what is known, after a change by this process.
    func refresh() { state.withLock { $0.freshUntil = surroundings.instant } }

    private func current() async throws(MemoryError) -> [Entry] {
        let known = state.withLock { state -> (entries: [Entry], isFresh: Bool)? in
            guard state.isLoaded else { return nil }
            let isFresh = state.freshUntil > surroundings.instant
            // One looks again; the others go on with what is known, however long that takes.
            if !isFresh { state.freshUntil = surroundings.instant + .seconds(1) }
            return (state.entries, isFresh)
        }
        // Until the store has answered once, nobody knows whether there are keys: then nothing is open.
        guard let known else { return try await reload() }
        if known.isFresh { return known.entries }
        do throws(MemoryError) {
            return try await reload()
        } catch {
            // What was known goes on while the store is away: a request that needs the store fails by itself.
            return known.entries
        }
    }

    private func reload() async throws(MemoryError) -> [Entry] {
        _ = try await loads.run("all") { () throws(MemoryError) in
            let keys = try await self.database.read(deadline: .after(.seconds(1))) { session throws(MemoryError) in
                try KeyRepository(session: session).hashes()
            }
            let now = self.surroundings.now
            let entries = keys.filter { $0.key.isLive(at: now) }.map { key, hash in
                Entry(
                    hash: hash,
                    access: Access(
                        keyID: "key-\(key.id)", clients: key.clients.map { .only(Set($0)) } ?? .all,
                        canWrite: key.canWrite, sharing: key.sharing), expiresAt: key.expiresAt)
            }
            self.state.withLock { state in
                state.entries = entries
                state.isLoaded = true
                if !keys.isEmpty { state.hasSeenKeys = true }
                if !entries.isEmpty { state.hasSaidEnd = false }
                state.freshUntil = self.surroundings.instant + Self.life
            }
            self.sayEnd()
            return true
        }
        return state.withLock { $0.entries }
    }

    private func mayLookAgain() -> Bool {
        state.withLock { state in
            let now = surroundings.instant
            guard state.mayLookAgain <= now else { return false }
            state.mayLookAgain = now + Self.pause
            return true
        }
    }

    /// Compares with every key in the same time, whichever it is and however much of it fits.
    private func find(_ hash: [UInt8], _ entries: [Entry]) -> Access? {
        var found: Access?
        let now = surroundings.now
        for entry in entries {
            let difference = zip(entry.hash, hash).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) }
            if difference == 0, entry.hash.count == hash.count, entry.isLive(at: now) {
                found = entry.access
            }
        }
        return found
    }
}
