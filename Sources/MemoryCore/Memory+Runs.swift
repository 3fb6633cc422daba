extension Memory {
    /// Stores a run, and its place in the graph: the edges to its template, project and engagement, with nodes for
    /// whatever it names that has none.
    ///
    /// - Throws: ``MemoryError`` with `conflict` when its id is taken.
    public func createRun(_ run: ExecutionRun) async throws(MemoryError) -> ExecutionRun {
        try run.validate()
        let stored = try await write { session throws(MemoryError) in
            let runs = RunRepository(session: session)
            try runs.insert(run)
            try runs.connect(run)
            return try runs.run(run.id)
        }
        return try Self.found(stored)
    }

    /// One run.
    ///
    /// - Throws: ``MemoryError`` with `not_found`.
    public func run(_ id: String) async throws(MemoryError) -> ExecutionRun {
        try Self.found(
            try await read { session throws(MemoryError) in try RunRepository(session: session).run(id) })
    }

    /// Changes a run; the graph follows.
    ///
    /// `change`: changes anything but the id.
    /// - Throws: ``MemoryError`` with `not_found`.
    public func updateRun(
        _ id: String, _ change: @escaping @Sendable (inout ExecutionRun) throws(MemoryError) -> Void
    ) async throws(MemoryError) -> ExecutionRun {
        let run = try await write { session throws(MemoryError) -> ExecutionRun? in
            let runs = RunRepository(session: session)
            guard let before = try runs.locked(id) else { return nil }
            var run = before
            try change(&run)
            run.id = id
            try run.validate()
            try runs.update(run)
            try runs.connect(run, before: before)
            return run
        }
        return try Self.found(run)
    }

    /// Runs, newest first.
    public func runs(
        _ filter: RunFilter = RunFilter(), page: PageRequest = PageRequest()
    ) async throws(MemoryError) -> Page<ExecutionRun> {
        try page.validate()
        let rows = try await read { session throws(MemoryError) in
            try RunRepository(session: session).list(filter, page: page)
        }
        return page.page(rows, id: \.rowID)
    }

    /// What the runs of a process template, workflow or project tell; the newest 100,000 count.
    ///
    /// - Throws: ``MemoryError`` with `invalid_request` when the filter names none of the three.
    public func runStatistics(_ filter: RunFilter) async throws(MemoryError) -> RunStatistics {
        guard filter.processTemplateID != nil || filter.workflowID != nil || filter.projectID != nil else {
            throw .invalid(
                "process_template_id, workflow_id or project_id is required", field: "process_template_id")
        }
        let samples = try await read { session throws(MemoryError) in
            try RunRepository(session: session).samples(filter).map(\.sample)
        }
        return RunStatistics(samples)
    }

    /// Every process template whose runs drift from their estimates, the farthest first.
    public func driftingTemplates(
        since: Timestamp? = nil
    ) async throws(MemoryError) -> [(template: String, statistics: RunStatistics)] {
        var filter = RunFilter()
        filter.since = since
        let samples = try await read { [filter] session throws(MemoryError) in
            try RunRepository(session: session).samples(filter)
        }
        return Dictionary(grouping: samples.filter { $0.template != nil }) { $0.template ?? "" }
            .map { (template: $0.key, statistics: RunStatistics($0.value.map(\.sample))) }
            .filter(\.statistics.isDrifting)
            .sorted {
                (abs($0.statistics.variance ?? 0), $1.template) > (abs($1.statistics.variance ?? 0), $0.template)
            }
    }

    /// Projects that used the same blueprint, found through the graph, those with most runs first.
    ///
    /// `limit`: how many, 1...100.
    /// - Throws: ``MemoryError`` with `not_found` for an unknown blueprint.
    public func similarProjects(blueprint id: String, limit: Int = 5) async throws(MemoryError) -> [SimilarProject] {
        guard Limits.results.contains(limit) else {
            throw .invalid("k must be between 1 and \(Limits.results.upperBound)", field: "k")
        }
        try Limits.check(id, "blueprint_id", maxCharacters: 255)
        let projects = try await read { session throws(MemoryError) -> [SimilarProject]? in
            guard try !GraphRepository(session: session).nodes([id]).isEmpty else { return nil }
            return try RunRepository(session: session).projects(usingBlueprint: id, limit: limit)
        }
        return try Self.found(projects)
    }
}
