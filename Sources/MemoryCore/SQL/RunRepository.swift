/// Rows of `execution_runs`, and what they do to the graph.
struct RunRepository {
    let session: any SQLSession

    /// The most runs that a statistic looks at, the newest.
    private static let maxSamples: Int64 = 100_000

    /// - Throws: ``MemoryError`` with `conflict` when the id is taken.
    func insert(_ run: ExecutionRun) throws(MemoryError) {
        try session.execute(
            """
            INSERT INTO execution_runs (run_id, run_type, workflow_id, process_template_id, task_id, project_id,
                engagement_id, executed_by_person_id, started_at, ended_at, actual_hours, outcome_notes, metadata)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, #moment($9), #moment($10), #float($11), $12, #jsonb($13))
            """, Self.values(run))
    }

    func update(_ run: ExecutionRun) throws(MemoryError) {
        try session.execute(
            """
            UPDATE execution_runs SET run_type = $2, workflow_id = $3, process_template_id = $4, task_id = $5,
                project_id = $6, engagement_id = $7, executed_by_person_id = $8, started_at = #moment($9),
                ended_at = #moment($10), actual_hours = #float($11), outcome_notes = $12, metadata = #jsonb($13)
            WHERE run_id = $1
            """, Self.values(run))
    }

    private static func values(_ run: ExecutionRun) -> [SQLValue] {
        [
            .text(run.id), .text(run.kind.rawValue), .optional(run.workflowID), .optional(run.processTemplateID),
            .optional(run.taskID), .optional(run.projectID), .optional(run.engagementID),
            .optional(run.executedByPersonID), .optional(run.startedAt), .optional(run.endedAt),
            .optional(run.actualHours), .optional(run.outcomeNotes), .json(run.metadata),
        ]
    }

    func run(_ id: String) throws(MemoryError) -> ExecutionRun? {
        let rows = try session.query(
            """
            SELECT id, run_id, run_type, workflow_id, process_template_id, task_id, project_id, engagement_id,
                executed_by_person_id, #time(started_at), #time(ended_at), #float(actual_hours), outcome_notes,
                #json(metadata), #time(created_at)
            FROM execution_runs WHERE run_id = $1
            """, [.text(id)])
        return try rows.first.map(Self.run)
    }

    /// One run, which nobody else changes until this transaction ends.
    func locked(_ id: String) throws(MemoryError) -> ExecutionRun? {
        if session.dialect == .postgres {
            let found = try session.query("SELECT 1 FROM execution_runs WHERE run_id = $1 FOR UPDATE", [.text(id)])
            guard !found.isEmpty else { return nil }
        }
        return try run(id)
    }

    func list(_ filter: RunFilter, page: PageRequest) throws(MemoryError) -> [ExecutionRun] {
        let rows = try session.query(
            """
            SELECT id, run_id, run_type, workflow_id, process_template_id, task_id, project_id, engagement_id,
                executed_by_person_id, #time(started_at), #time(ended_at), #float(actual_hours), outcome_notes,
                #json(metadata), #time(created_at)
            FROM execution_runs
            WHERE (#text($1) IS NULL OR task_id = $1) AND (#text($2) IS NULL OR project_id = $2)
                AND (#text($3) IS NULL OR process_template_id = $3) AND (#text($4) IS NULL OR workflow_id = $4)
                AND (#text($5) IS NULL OR run_type = $5)
                AND (#bigint($6) IS NULL OR coalesce(started_at, created_at) >= #moment($6))
                AND (#bigint($7) IS NULL OR id < $7)
            ORDER BY id DESC LIMIT $8
            """, Self.values(filter) + [page.before, page.fetch])
        return try rows.map(Self.run)
    }

    /// What the runs say of themselves, with their templates.
    func samples(
        _ filter: RunFilter
    ) throws(MemoryError) -> [(template: String?, sample: RunStatistics.Sample)] {
        let rows = try session.query(
            """
            SELECT process_template_id, #float(actual_hours), metadata ->> 'estimated_hours', outcome_notes
            FROM execution_runs
            WHERE (#text($1) IS NULL OR task_id = $1) AND (#text($2) IS NULL OR project_id = $2)
                AND (#text($3) IS NULL OR process_template_id = $3) AND (#text($4) IS NULL OR workflow_id = $4)
                AND (#text($5) IS NULL OR run_type = $5)
                AND (#bigint($6) IS NULL OR coalesce(started_at, created_at) >= #moment($6))
            ORDER BY id DESC LIMIT $7
            """, Self.values(filter) + [.int(Self.maxSamples)])
        return try rows.map { row throws(MemoryError) in
            // Other programs may have written an estimate that is no number.
            let estimate = row.isNull(2) ? nil : try? row.double(2)
            return (
                row.optionalText(0),
                RunStatistics.Sample(
                    hours: try row.optionalDouble(1), estimate: estimate, notes: row.optionalText(3))
            )
        }
    }

    private static func values(_ filter: RunFilter) -> [SQLValue] {
        [
            .optional(filter.taskID), .optional(filter.projectID), .optional(filter.processTemplateID),
            .optional(filter.workflowID), .optional(filter.kind?.rawValue), .optional(filter.since),
        ]
    }

    private static func run(_ row: SQLRow) throws(MemoryError) -> ExecutionRun {
        var run = ExecutionRun(
            id: row.optionalText(1) ?? "", kind: ExecutionRun.Kind(rawValue: row.optionalText(2) ?? "") ?? .process)
        run.rowID = try row.int(0)
        run.workflowID = row.optionalText(3)
        run.processTemplateID = row.optionalText(4)
        run.taskID = row.optionalText(5)
        run.projectID = row.optionalText(6)
        run.engagementID = row.optionalText(7)
        run.executedByPersonID = row.optionalText(8)
        run.startedAt = try row.optionalTimestamp(9)
        run.endedAt = try row.optionalTimestamp(10)
        run.actualHours = try row.optionalDouble(11)
        run.outcomeNotes = row.optionalText(12)
        run.metadata = try row.json(13).object ?? JSONObject()
        run.createdAt = try row.optionalTimestamp(14)
        return run
    }

    // MARK: The pattern hierarchy

    /// Makes the last three edges of Venture → Offer → Service Blueprint → Workflow → Process Template → Execution Run,
    /// and on to project and engagement, with nodes for whatever the run names that has none. What only the run as it was
    /// before said goes.
    func connect(_ run: ExecutionRun, before: ExecutionRun? = nil) throws(MemoryError) {
        let graph = GraphRepository(session: session)
        let named = [
            ("execution_run", run.id as String?), ("process_template", run.processTemplateID),
            ("workflow", run.workflowID), ("task", run.taskID), ("project", run.projectID),
            ("engagement", run.engagementID), ("person", run.executedByPersonID),
        ]
        try graph.hold(named.compactMap { type, id in id.map { ($0, type) } })
        let edges = Self.edges(run)
        let said = Set(edges.map { GraphRepository.Triple($0) })
        let old = before.map(Self.edges)?.filter { !said.contains(GraphRepository.Triple($0)) } ?? []
        if !old.isEmpty { try graph.lock(edges + old) }
        try graph.hold(edges)
        for edge in old { try removeUnsaid(edge) }
    }

    private static let servesEngagement = "project_serves_engagement"

    private static func edges(_ run: ExecutionRun) -> [GraphEdge] {
        let edges = [
            (run.processTemplateID, run.id, "template_used_in_run"), (run.id, run.projectID, "run_belongs_to_project"),
            (run.projectID, run.engagementID, servesEngagement),
        ]
        return edges.compactMap { from, to, type in
            guard let from, let to else { return nil }
            return GraphEdge(from: from, to: to, type: type)
        }
    }

    /// Removes an edge that a run no longer says. That of project and engagement stays while another run says it, and where
    /// somebody has given it properties.
    private func removeUnsaid(_ edge: GraphEdge) throws(MemoryError) {
        guard edge.type == Self.servesEngagement else {
            _ = try GraphRepository(session: session).delete(edge)
            return
        }
        try session.execute(
            """
            DELETE FROM graph_edges WHERE from_node_id = $1 AND to_node_id = $2 AND edge_type = $3
                AND coalesce(properties, #jsonb('{}')) = #jsonb('{}')
                AND NOT EXISTS (SELECT 1 FROM execution_runs WHERE project_id = $1 AND engagement_id = $2)
            """, [.text(edge.from), .text(edge.to), .text(edge.type)])
    }

    /// Projects whose runs came from a blueprint's workflows, those with most runs first.
    func projects(usingBlueprint id: String, limit: Int) throws(MemoryError) -> [SimilarProject] {
        let rows = try session.query(
            """
            SELECT project, runs, #float(average), #float(total), #time(last) FROM (
                SELECT p.to_node_id AS project, count(*) AS runs, avg(r.actual_hours) AS average,
                    coalesce(sum(r.actual_hours), 0) AS total, max(coalesce(r.started_at, r.created_at)) AS last
                FROM graph_edges w
                JOIN graph_edges t ON t.from_node_id = w.to_node_id AND t.edge_type = 'workflow_has_template'
                JOIN graph_edges u ON u.from_node_id = t.to_node_id AND u.edge_type = 'template_used_in_run'
                JOIN graph_edges p ON p.from_node_id = u.to_node_id AND p.edge_type = 'run_belongs_to_project'
                JOIN execution_runs r ON r.run_id = u.to_node_id
                WHERE w.from_node_id = $1 AND w.edge_type = 'blueprint_has_workflow'
                GROUP BY p.to_node_id
            ) AS projects ORDER BY runs DESC, last DESC, project LIMIT $2
            """, [.text(id), .int(Int64(limit))])
        return try rows.map { row throws(MemoryError) in
            SimilarProject(
                id: try row.text(0), runs: Int(clamping: try row.int(1)), averageHours: try row.optionalDouble(2),
                totalHours: try row.double(3), lastRunAt: try row.optionalTimestamp(4))
        }
    }
}
