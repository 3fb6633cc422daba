/// Rows of `graph_nodes` and `graph_edges`.
struct GraphRepository {
    let session: any SQLSession

    /// The most nodes that one question looks at: a graph where everything is connected stays harmless.
    static let maxVisited = 10_000

    // MARK: Nodes

    func put(_ node: GraphNode) throws(MemoryError) -> GraphNode {
        let rows = try session.query(
            """
            INSERT INTO graph_nodes (node_id, node_type, properties) VALUES ($1, $2, #jsonb($3))
            ON CONFLICT (node_id) DO UPDATE SET node_type = excluded.node_type, properties = excluded.properties,
                updated_at = #now()
            RETURNING node_id, node_type, #json(properties), #time(created_at), #time(updated_at)
            """, [.text(node.id), .text(node.type), .json(node.properties)])
        guard let row = rows.first else { throw .badReply(.postgres, "no node") }
        return try Self.node(row)
    }

    func nodes(_ ids: [String]) throws(MemoryError) -> [GraphNode] {
        try session.query(
            """
            SELECT node_id, node_type, #json(properties), #time(created_at), #time(updated_at) FROM graph_nodes
            WHERE node_id #anyText($1)
            """, [.texts(ids)]
        ).map(Self.node)
    }

    /// Deletes a node with its edges.
    ///
    /// - Returns: whether there was one.
    func delete(_ id: String) throws(MemoryError) -> Bool {
        if session.dialect == .postgres {
            // One that appears after this look is not locked, and must not be touched.
            let found = try session.query("SELECT 1 FROM graph_nodes WHERE node_id = $1 FOR UPDATE", [.text(id)])
            guard !found.isEmpty else { return false }
        }
        try session.execute(
            SQL(
                postgres: """
                    DELETE FROM graph_edges WHERE id IN (
                        SELECT id FROM graph_edges WHERE from_node_id = $1 OR to_node_id = $1
                        ORDER BY from_node_id, to_node_id, edge_type FOR UPDATE)
                    """,
                sqlite: "DELETE FROM graph_edges WHERE from_node_id = $1 OR to_node_id = $1"), [.text(id)])
        return try session.execute("DELETE FROM graph_nodes WHERE node_id = $1", [.text(id)]) > 0
    }

    static func node(_ row: SQLRow) throws(MemoryError) -> GraphNode {
        var node = GraphNode(
            id: try row.text(0), type: row.optionalText(1) ?? "", properties: try row.json(2).object ?? JSONObject())
        node.createdAt = try row.optionalTimestamp(3)
        node.updatedAt = try row.optionalTimestamp(4)
        return node
    }

    // MARK: Edges

    /// - Throws: ``MemoryError`` with `unprocessable` when one of its nodes is missing.
    func put(_ edge: GraphEdge) throws(MemoryError) -> GraphEdge {
        let rows = try session.query(
            """
            INSERT INTO graph_edges (from_node_id, to_node_id, edge_type, properties) VALUES ($1, $2, $3, #jsonb($4))
            ON CONFLICT (from_node_id, to_node_id, edge_type) DO UPDATE SET properties = excluded.properties
            RETURNING from_node_id, to_node_id, edge_type, #json(properties), #time(created_at)
            """, [.text(edge.from), .text(edge.to), .text(edge.type), .json(edge.properties)])
        guard let row = rows.first else { throw .badReply(.postgres, "no edge") }
        return try Self.edge(row)
    }

    /// - Returns: whether there was one.
    func delete(_ edge: GraphEdge) throws(MemoryError) -> Bool {
        try session.execute(
            "DELETE FROM graph_edges WHERE from_node_id = $1 AND to_node_id = $2 AND edge_type = $3",
            [.text(edge.from), .text(edge.to), .text(edge.type)]) > 0
    }

    /// The edges at some nodes, in the directions that are wanted.
    private func edges(
        at ids: [String], type: String?, _ direction: NeighborQuery.Direction
    ) throws(MemoryError) -> [GraphEdge] {
        try session.query(
            """
            SELECT from_node_id, to_node_id, edge_type, #json(properties), #time(created_at) FROM graph_edges
            WHERE ((#int($2) = 1 AND from_node_id #anyText($1)) OR (#int($3) = 1 AND to_node_id #anyText($1)))
                AND (#text($4) IS NULL OR edge_type = $4)
            ORDER BY id LIMIT $5
            """,
            [
                .texts(ids), .int(direction == .incoming ? 0 : 1), .int(direction == .outgoing ? 0 : 1),
                .optional(type), .int(Int64(Self.maxVisited)),
            ]
        ).map(Self.edge)
    }

    static func edge(_ row: SQLRow) throws(MemoryError) -> GraphEdge {
        var edge = GraphEdge(
            from: try row.text(0), to: try row.text(1), type: row.optionalText(2) ?? "",
            properties: try row.json(3).object ?? JSONObject())
        edge.createdAt = try row.optionalTimestamp(4)
        return edge
    }

    // MARK: Walking

    /// A step from a known node to one that was not known.
    private struct Step {
        let edge: GraphEdge
        let target: String
        let direction: NeighborQuery.Direction
    }

    /// The steps from a frontier to nodes that were not visited before. Walking level by level visits each node once, which
    /// a recursive statement cannot do over cycles without listing every path.
    private func steps(
        from frontier: Set<String>, visited: Set<String>, type: String?, _ direction: NeighborQuery.Direction
    ) throws(MemoryError) -> [Step] {
        var steps: [Step] = []
        for edge in try edges(at: Array(frontier), type: type, direction) {
            if direction != .incoming, frontier.contains(edge.from), !visited.contains(edge.to) {
                steps.append(Step(edge: edge, target: edge.to, direction: .outgoing))
            }
            if direction != .outgoing, frontier.contains(edge.to), !visited.contains(edge.from) {
                steps.append(Step(edge: edge, target: edge.from, direction: .incoming))
            }
        }
        return steps
    }

    /// The neighbours of a node, the nearest first; one for each edge that leads to it from the level before. At most 1,000.
    func neighbors(_ query: NeighborQuery) throws(MemoryError) -> [GraphNeighbor] {
        var visited: Set<String> = [query.nodeID]
        var frontier = visited
        var found: [(step: Step, depth: Int)] = []
        for depth in 1...query.depth where !frontier.isEmpty && found.count < 1000 {
            let steps = try steps(from: frontier, visited: visited, type: query.edgeType, query.direction)
            found += steps.map { ($0, depth) }
            frontier = Set(steps.map(\.target))
            visited.formUnion(frontier)
        }
        let listed = found.prefix(1000)
        let nodes = try self.nodes(Array(Set(listed.map(\.step.target))))
        let byID = Dictionary(nodes.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        let runs = try runCounts(nodes.filter { $0.type == "process_template" }.map(\.id))
        return listed.compactMap { step, depth in
            guard let node = byID[step.target] else { return nil }
            return GraphNeighbor(
                node: node, edgeType: step.edge.type, direction: step.direction, depth: depth,
                executionRuns: node.type == "process_template" ? runs[node.id] ?? 0 : nil)
        }
    }

    private func runCounts(_ templates: [String]) throws(MemoryError) -> [String: Int] {
        guard !templates.isEmpty else { return [:] }
        var counts: [String: Int] = [:]
        for row in try session.query(
            """
            SELECT process_template_id, count(*) FROM execution_runs WHERE process_template_id #anyText($1)
            GROUP BY process_template_id
            """, [.texts(templates)])
        {
            counts[try row.text(0)] = Int(clamping: try row.int(1))
        }
        return counts
    }

    /// A shortest path that follows edges either way; nil when there is none within the depth.
    func path(from start: String, to end: String, maxDepth: Int) throws(MemoryError) -> GraphPath? {
        var arrivals: [String: Step] = [:]
        var visited: Set<String> = [start]
        var frontier = visited
        var depth = 0
        while !visited.contains(end), depth < maxDepth, !frontier.isEmpty, visited.count < Self.maxVisited {
            depth += 1
            let steps = try steps(from: frontier, visited: visited, type: nil, .both)
            for step in steps where arrivals[step.target] == nil { arrivals[step.target] = step }
            frontier = Set(steps.map(\.target))
            visited.formUnion(frontier)
        }
        guard visited.contains(end) else { return nil }
        var edges: [GraphEdge] = []
        var ids = [end]
        while let last = ids.last, last != start, let step = arrivals[last] {
            edges.append(step.edge)
            ids.append(step.direction == .outgoing ? step.edge.from : step.edge.to)
        }
        let nodes = try nodes(ids)
        let byID = Dictionary(nodes.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        return GraphPath(nodes: ids.reversed().compactMap { byID[$0] }, edges: edges.reversed())
    }
}
