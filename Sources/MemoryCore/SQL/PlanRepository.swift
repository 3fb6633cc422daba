/// Rows of `plans` and `scheduler_runs`.
struct PlanRepository {
    let session: any SQLSession

    func insert(_ draft: PlanDraft) throws(MemoryError) -> Int64 {
        let rows = try session.query(
            """
            INSERT INTO plans (plan_title, intent, sop, client_id, metadata)
            VALUES ($1, $2, #jsonb($3), $4, #jsonb($5)) RETURNING id
            """,
            [
                .text(draft.title), .text(draft.intent), .text(draft.sop.encodedText), .optional(draft.owner.clientID),
                .json(draft.metadata),
            ])
        guard let row = rows.first else { throw .badReply(.postgres, "no plan id") }
        return try row.int(0)
    }

    func plan(_ id: Int64, of owners: Owners) throws(MemoryError) -> Plan? {
        let rows = try session.query(
            """
            SELECT id, plan_title, intent, #json(sop), client_id, status, #json(metadata), #time(created_at),
                #time(updated_at)
            FROM plans WHERE #owned(client_id) AND id = $5
            """, owners.values + [.int(id)])
        return try rows.first.map(Self.plan)
    }

    /// One plan, which nobody else changes until this transaction ends.
    func locked(_ id: Int64, of owners: Owners) throws(MemoryError) -> Plan? {
        if session.dialect == .postgres {
            let found = try session.query("SELECT 1 FROM plans WHERE id = $1 FOR UPDATE", [.int(id)])
            guard !found.isEmpty else { return nil }
        }
        return try plan(id, of: owners)
    }

    /// One plan, which nobody deletes until this transaction ends.
    func held(_ id: Int64, of owners: Owners) throws(MemoryError) -> Plan? {
        if session.dialect == .postgres {
            let found = try session.query("SELECT 1 FROM plans WHERE id = $1 FOR KEY SHARE", [.int(id)])
            guard !found.isEmpty else { return nil }
        }
        return try plan(id, of: owners)
    }

    func list(of owners: Owners, status: Plan.Status?, page: PageRequest) throws(MemoryError) -> [Plan] {
        let rows = try session.query(
            """
            SELECT id, plan_title, intent, #json(sop), client_id, status, #json(metadata), #time(created_at),
                #time(updated_at)
            FROM plans
            WHERE #owned(client_id) AND (#text($5) IS NULL OR status = $5) AND (#bigint($6) IS NULL OR id < $6)
            ORDER BY id DESC LIMIT $7
            """, owners.values + [.optional(status?.rawValue), page.before, page.fetch])
        return try rows.map(Self.plan)
    }

    /// Writes what a patch changes of a plan that is locked.
    func update(_ id: Int64, _ patch: PlanPatch) throws(MemoryError) {
        try session.execute(
            """
            UPDATE plans SET plan_title = coalesce(#text($2), plan_title), intent = coalesce(#text($3), intent),
                sop = coalesce(#jsonb($4), sop), metadata = coalesce(#jsonb($5), metadata),
                status = coalesce(#text($6), status), updated_at = #now()
            WHERE id = $1
            """,
            [
                .int(id), .optional(patch.title), .optional(patch.intent), .optional(patch.sop?.encodedText),
                .optional(patch.metadata?.encodedText), .optional(patch.status?.rawValue),
            ])
    }

    private static func plan(_ row: SQLRow) throws(MemoryError) -> Plan {
        Plan(
            id: try row.int(0), title: row.optionalText(1) ?? "", intent: row.optionalText(2) ?? "",
            sop: try row.json(3), clientID: try row.optionalInt(4).map { Int(clamping: $0) },
            status: Plan.Status(rawValue: try row.text(5)) ?? .draft, metadata: try row.json(6).object ?? JSONObject(),
            createdAt: try row.timestamp(7), updatedAt: try row.timestamp(8))
    }

    // MARK: Schedules

    func insert(_ blocks: JSON, of plan: Plan) throws(MemoryError) -> Schedule {
        let rows = try session.query(
            """
            INSERT INTO scheduler_runs (plan_id, schedule_blocks, client_id, metadata)
            VALUES ($1, #jsonb($2), $3, #jsonb('{}'))
            RETURNING id, plan_id, #json(schedule_blocks), client_id, status, #time(created_at)
            """, [.int(plan.id), .text(blocks.encodedText), .optional(plan.clientID)])
        guard let row = rows.first else { throw .badReply(.postgres, "no schedule id") }
        return try Self.schedule(row)
    }

    func schedules(of planID: Int64, page: PageRequest) throws(MemoryError) -> [Schedule] {
        let rows = try session.query(
            """
            SELECT id, plan_id, #json(schedule_blocks), client_id, status, #time(created_at) FROM scheduler_runs
            WHERE plan_id = $1 AND (#bigint($2) IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
            """, [.int(planID), page.before, page.fetch])
        return try rows.map(Self.schedule)
    }

    private static func schedule(_ row: SQLRow) throws(MemoryError) -> Schedule {
        Schedule(
            id: try row.int(0), planID: try row.int(1), blocks: try row.json(2),
            clientID: try row.optionalInt(3).map { Int(clamping: $0) }, status: row.optionalText(4) ?? "",
            createdAt: try row.timestamp(5))
    }
}
