import Logging
import Synchronization

extension Memory {
    /// From this share of used ids on there are ``warnings``: making a column of many rows wider takes planning.
    private static let scarce = 0.8

    /// The share of ids that is used, of the table that has the fewest left; nil until it was looked at.
    package var idsUsedRatio: Double? { idsUsed.withLock { $0 } }

    /// Looks once a minute, until the task is cancelled.
    func watchIDs() async {
        while !Task.isCancelled {
            await checkIDs()
            try? await surroundings.sleep(for: .seconds(60))
        }
    }

    private func checkIDs() async {
        let found = try? await database.read(deadline: .after(.seconds(5))) { session throws(MemoryError) in
            try session.query(Self.shares, []).first.map { row throws(MemoryError) in
                (table: try row.text(0), share: try row.double(1))
            }
        }
        guard let scarcest = found else { return }
        idsUsed.withLock { $0 = scarcest.share }
        guard scarcest.share >= Self.scarce else { return }
        let warning = "ids: more than 80 % of those of \(scarcest.table) are used"
        let isNew = warned.withLock { warned in
            guard !warned.contains(warning) else { return false }
            warned.append(warning)
            return true
        }
        if isNew {
            logger.warning(
                "The ids of a table run out", metadata: [LogKey.name: "\(scarcest.table): \(scarcest.share)"])
        }
    }

    /// The table of which the largest share of ids is used. A column may be narrower than the sequence that it is filled by.
    private static let shares = SQL(
        postgres: """
            SELECT owner.relname, coalesce(s.last_value, 0)::float8 / least(s.max_value, CASE a.atttypid
                WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 ELSE s.max_value END) AS share
            FROM pg_sequences s
            JOIN pg_class q ON q.relname = s.sequencename AND q.relnamespace = current_schema()::regnamespace
            JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = q.oid AND d.deptype IN ('a', 'i')
            JOIN pg_class owner ON d.refclassid = 'pg_class'::regclass AND owner.oid = d.refobjid
            JOIN pg_attribute a ON a.attrelid = owner.oid AND a.attnum = d.refobjsubid
            WHERE s.schemaname = current_schema()
            ORDER BY share DESC LIMIT 1
            """,
        sqlite: "SELECT name, CAST(seq AS REAL) / 9223372036854775807 FROM sqlite_sequence ORDER BY seq DESC LIMIT 1")
}
