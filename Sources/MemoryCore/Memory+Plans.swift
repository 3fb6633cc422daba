extension Memory {
    /// Stores a plan, as a draft.
    public func createPlan(_ draft: PlanDraft) async throws(MemoryError) -> Plan {
        try draft.validate()
        let ensured = writer.ensuringClient(draft.owner)
        let plan = try await write { session throws(MemoryError) in
            try ensured(session)
            let plans = PlanRepository(session: session)
            return try plans.plan(try plans.insert(draft), of: .anyone)
        }
        return try Self.found(plan)
    }

    /// One plan.
    ///
    /// - Throws: ``MemoryError`` with `not_found`, also when it is not these owners'.
    public func plan(_ id: Int64, of owners: Owners) async throws(MemoryError) -> Plan {
        try Limits.check(rowID: id)
        return try Self.found(
            try await read { session throws(MemoryError) in
                try PlanRepository(session: session).plan(id, of: owners)
            })
    }

    /// Plans, newest first.
    public func plans(
        of owners: Owners, status: Plan.Status? = nil, page: PageRequest = PageRequest()
    ) async throws(MemoryError) -> Page<Plan> {
        try page.validate()
        try owners.validate()
        let rows = try await read { session throws(MemoryError) in
            try PlanRepository(session: session).list(of: owners, status: status, page: page)
        }
        return page.page(rows, id: \.id)
    }

    /// Changes a plan.
    ///
    /// - Throws: ``MemoryError``: `not_found`; `unprocessable` for a move of status that is not allowed.
    public func updatePlan(_ id: Int64, of owners: Owners, _ patch: PlanPatch) async throws(MemoryError) -> Plan {
        try Limits.check(rowID: id)
        try patch.validate()
        let plan = try await write { session throws(MemoryError) -> Plan? in
            let plans = PlanRepository(session: session)
            guard let old = try plans.locked(id, of: owners) else { return nil }
            if let next = patch.status, !old.status.canMove(to: next) {
                throw MemoryError(
                    .unprocessable, "A plan cannot move from \(old.status.rawValue) to \(next.rawValue)",
                    field: "status")
            }
            try plans.update(id, patch)
            return try plans.plan(id, of: owners)
        }
        return try Self.found(plan)
    }

    /// Gives a plan's steps their times: at most 500 blocks, none for a plan of milestones alone.
    ///
    /// - Throws: ``MemoryError``: `not_found`; `unprocessable` for a block that ends before it begins.
    public func schedulePlan(
        _ id: Int64, of owners: Owners, blocks: [Schedule.Block]
    ) async throws(MemoryError) -> Schedule {
        try Limits.check(rowID: id)
        guard blocks.count <= 500 else {
            throw .invalid("schedule_blocks must be at most 500", field: "schedule_blocks")
        }
        for block in blocks {
            try Limits.check(block.taskID, "task_id", maxBytes: 255)
            if let event = block.calendarEventID { try Limits.check(event, "calendar_event_id", maxBytes: 1024) }
            guard block.start < block.end else {
                throw MemoryError(.unprocessable, "A block must end after its start", field: "schedule_blocks")
            }
        }
        let json = JSON.array(blocks.map(\.json))
        let schedule = try await write { session throws(MemoryError) -> Schedule? in
            let plans = PlanRepository(session: session)
            guard let plan = try plans.held(id, of: owners) else { return nil }
            return try plans.insert(json, of: plan)
        }
        return try Self.found(schedule)
    }

    /// A plan's schedules, newest first.
    ///
    /// - Throws: ``MemoryError`` with `not_found` for an unknown plan.
    public func schedules(
        of id: Int64, owners: Owners, page: PageRequest = PageRequest()
    ) async throws(MemoryError) -> Page<Schedule> {
        try Limits.check(rowID: id)
        try page.validate()
        let rows = try await read { session throws(MemoryError) -> [Schedule]? in
            let plans = PlanRepository(session: session)
            guard try plans.plan(id, of: owners) != nil else { return nil }
            return try plans.schedules(of: id, page: page)
        }
        return page.page(try Self.found(rows), id: \.id)
    }
}

extension Schedule.Block {
    fileprivate var json: JSON {
        var object: JSONObject = [
            "start": .string(start.description), "end": .string(end.description), "task_id": .string(taskID),
        ]
        object["calendar_event_id"] = calendarEventID.map(JSON.string)
        return .object(object)
    }
}
