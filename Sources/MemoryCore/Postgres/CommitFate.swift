/// What a server says became of a transaction.
struct CommitFate {
    /// As PostgreSQL says it; nil when it is too old to be known.
    let status: String?
    /// The life of the server that says so.
    let life: String?
    /// Whether that is a standby.
    let isStandby: Bool
    /// Whether commits wait for standbys there.
    let isReplicated: Bool

    /// What can be concluded of it.
    enum Verdict { case committed, aborted, inProgress, unknown }

    init(status: String?, life: String?, isStandby: Bool, isReplicated: Bool) {
        (self.status, self.life) = (status, life)
        (self.isStandby, self.isReplicated) = (isStandby, isReplicated)
    }

    /// Asks, all in one statement: between two the server could become another.
    init(of transaction: String, _ session: any SQLSession) throws(MemoryError) {
        let rows = try session.query(
            """
            SELECT pg_xact_status($1::xid8), pg_stat_get_bgwriter_stat_reset_time()::text, pg_is_in_recovery(),
                current_setting('synchronous_standby_names') <> ''
            """, [.text(transaction)])
        guard let row = rows.first else { throw .badReply(.postgres, "no fate") }
        self.init(
            status: row.optionalText(0), life: row.optionalText(1), isStandby: try row.bool(2),
            isReplicated: try row.bool(3))
    }

    /// What it says of a transaction that began in that life of its server.
    ///
    /// After a crash, and on another server, the ids of transactions that left no trace are given again: then a commit may be
    /// another's. That it was rolled back a standby cannot know, because it may merely not have heard of it yet.
    func verdict(life: String?) -> Verdict {
        switch status {
        case "committed" where life != nil && life == self.life && !isStandby: .committed
        case "aborted" where !isStandby: .aborted
        case "in progress": .inProgress
        default: .unknown
        }
    }
}
