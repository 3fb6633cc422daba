import Synchronization

/// What a server says of itself when a connection begins.
struct PostgresGreeting: Sendable {
    /// Which records it has: another system was made anew or from a dump, another timeline began with a failover, at which
    /// the last rows may have been lost.
    struct History: Sendable, Equatable {
        let system: String
        let timeline: Int64
    }

    /// The server's life between two crashes, in which a transaction's id is given once: a crash, and nothing else, resets
    /// its statistics.
    let life: String?
    /// Whether it takes no writes: a standby, or one that was set so.
    let isReadOnly: Bool
    let isStandby: Bool
    /// Nil of a standby, and where the role may not know.
    let history: History?

    static let question = """
        SELECT pg_stat_get_bgwriter_stat_reset_time()::text, current_setting('transaction_read_only'), pg_is_in_recovery(),
            (SELECT system_identifier::text FROM pg_control_system()),
            CASE WHEN NOT pg_is_in_recovery()
                THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END
        """

    /// What is left to ask when the functions for the rest are missing or forbidden, as in some hosted services.
    static let shortQuestion = """
        SELECT pg_stat_get_bgwriter_stat_reset_time()::text, current_setting('transaction_read_only'), pg_is_in_recovery(),
            NULL, NULL
        """

    init(_ result: PostgresResult) throws(MemoryError) {
        guard let row = result.rows.first else { throw .badReply(.postgres, "no greeting") }
        life = row.optionalText(0)
        isReadOnly = row.optionalText(1) == "on"
        isStandby = try row.bool(2)
        guard let system = row.optionalText(3), let timeline = try row.optionalInt(4) else {
            history = nil
            return
        }
        history = History(system: system, timeline: timeline)
    }
}

/// What a pool knows of its servers: the highest timeline that was seen, and which address was the last to be good.
///
/// A primary that was frozen while its standby was promoted answers again when it wakes, and takes writes that are lost.
/// Its timeline is below the new one's, and so it is refused.
final class PostgresCluster: Sendable {
    private struct State {
        var history: PostgresGreeting.History?
        var lineage: UInt64?
        var lastWinner: String?
        var term = 0
        var mayEndAgain = Deadline.after(.zero)
        var waiting: WaitingCommit?
    }

    /// A commit that was left while it waited for its standby.
    struct WaitingCommit: Sendable, Equatable {
        let transaction: String
        let life: String?
    }

    let hosts: PostgresHosts
    private let state = Mutex(State())

    init(_ configuration: PostgresConfiguration) { hosts = PostgresHosts(configuration) }

    /// Grows when connections that were made before must not be used any more.
    var term: Int { state.withLock { $0.term } }

    /// Names the history that the records are of, for what is cached of them; nil while none is known for sure.
    var lineage: UInt64? { state.withLock { $0.lineage } }

    var history: PostgresGreeting.History? { state.withLock { $0.history } }

    /// The addresses to try, the one that was good last first.
    func addresses(deadline: Deadline) throws(MemoryError) -> [PostgresHost] {
        let found = try hosts.addresses(deadline: deadline)
        guard let last = state.withLock({ $0.lastWinner }) else { return found }
        return found.filter { $0.key == last } + found.filter { $0.key != last }
    }

    /// Takes a server for the one to use.
    ///
    /// - Returns: the term of connections to it.
    /// - Throws: ``MemoryError`` when it is older than one that was seen.
    func take(_ greeting: PostgresGreeting, at host: PostgresHost) throws(MemoryError) -> Int {
        let term = state.withLock { state -> Int? in
            guard !greeting.isOlder(than: state.history) else { return nil }
            if let history = greeting.history, history != state.history {
                if state.history != nil { state.term += 1 }
                state.history = history
            }
            // A standby may be behind: what is read from it says nothing of what is stored.
            let names = greeting.history.map { [$0.system, String($0.timeline)] } ?? []
            state.lineage =
                greeting.isStandby ? nil : UInt64(sha256(names.joined(separator: "/")).prefix(8))
            state.lastWinner = host.key
            return state.term
        }
        guard let term else { throw Self.older }
        return term
    }

    static let older = MemoryError.unavailable(
        .postgres, "a server of an older timeline than one that was seen: an old primary", driverCode: "old timeline")

    /// Ends the connections of a term, because their server takes no more writes; at most once a second, so that reads go on
    /// while there is no other.
    func end(term: Int) {
        state.withLock { state in
            guard state.term == term, state.mayEndAgain.hasPassed else { return }
            state.term += 1
            state.mayEndAgain = .after(.seconds(1))
        }
    }

    // MARK: Commits that wait

    /// A commit that waits for its standby, as far as is known. Behind it others would only wait as well, each with a
    /// connection of the server that is not given back.
    var waitingCommit: WaitingCommit? { state.withLock { $0.waiting } }

    func note(_ commit: WaitingCommit) { state.withLock { $0.waiting = commit } }

    func forget(_ commit: WaitingCommit) { state.withLock { if $0.waiting == commit { $0.waiting = nil } } }
}

extension PostgresGreeting {
    /// Whether it is of a server that another has followed.
    func isOlder(than seen: History?) -> Bool {
        guard let seen, let history else { return false }
        return history.system == seen.system && history.timeline < seen.timeline
    }
}
