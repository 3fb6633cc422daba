extension Memory {
    /// Stores a node, in the place of the one of that id.
    public func putNode(_ node: GraphNode) async throws(MemoryError) -> GraphNode {
        try node.validate()
        return try await write { session throws(MemoryError) in try GraphRepository(session: session).put(node) }
    }

    /// One node.
    ///
    /// - Throws: ``MemoryError`` with `not_found`.
    public func node(_ id: String) async throws(MemoryError) -> GraphNode {
        let nodes = try await read { session throws(MemoryError) in try GraphRepository(session: session).nodes([id]) }
        return try Self.found(nodes.first)
    }

    /// Deletes a node with its edges.
    ///
    /// - Throws: ``MemoryError`` with `not_found`.
    public func deleteNode(_ id: String) async throws(MemoryError) {
        let isGone = try await write { session throws(MemoryError) in try GraphRepository(session: session).delete(id) }
        guard isGone else { throw Self.missing }
    }

    /// Stores an edge; the same one again changes its properties.
    ///
    /// - Throws: ``MemoryError`` with `unprocessable` when one of its nodes is missing.
    public func putEdge(_ edge: GraphEdge) async throws(MemoryError) -> GraphEdge {
        try edge.validate()
        return try await write { session throws(MemoryError) in try GraphRepository(session: session).put(edge) }
    }

    /// Deletes an edge; its properties do not matter.
    ///
    /// - Throws: ``MemoryError`` with `not_found`.
    public func deleteEdge(_ edge: GraphEdge) async throws(MemoryError) {
        try edge.validate()
        let isGone = try await write { session throws(MemoryError) in
            try GraphRepository(session: session).delete(edge)
        }
        guard isGone else { throw Self.missing }
    }

    /// Stores nodes and then edges, at most 1,000 of each, all or nothing. Of two with one id the later counts.
    ///
    /// - Throws: ``MemoryError`` with `unprocessable` when a node of an edge is missing.
    public func putGraph(
        nodes: [GraphNode], edges: [GraphEdge]
    ) async throws(MemoryError) -> (nodes: [GraphNode], edges: [GraphEdge]) {
        guard !nodes.isEmpty || !edges.isEmpty, nodes.count <= 1000 else {
            throw .invalid("nodes must be at most 1000, and there must be a node or an edge", field: "nodes")
        }
        guard edges.count <= 1000 else { throw .invalid("edges must be at most 1000", field: "edges") }
        for node in nodes { try node.validate() }
        for edge in edges { try edge.validate() }
        return try await write { session throws(MemoryError) in
            let graph = GraphRepository(session: session)
            return (try graph.put(nodes), try graph.put(edges))
        }
    }

    /// The nodes around a node, at most 1,000, the nearest first.
    ///
    /// - Throws: ``MemoryError`` with `not_found` for an unknown node.
    public func neighbors(_ query: NeighborQuery) async throws(MemoryError) -> [GraphNeighbor] {
        try query.validate()
        let neighbors = try await read { session throws(MemoryError) -> [GraphNeighbor]? in
            let graph = GraphRepository(session: session)
            guard try !graph.nodes([query.nodeID]).isEmpty else { return nil }
            return try graph.neighbors(query)
        }
        return try Self.found(neighbors)
    }

    /// A shortest path between two nodes that follows edges either way.
    ///
    /// `maxDepth`: how many edges it may have, 1...20.
    /// - Throws: ``MemoryError`` with `not_found` when a node is unknown, or there is no such path.
    public func path(from start: String, to end: String, maxDepth: Int = 6) async throws(MemoryError) -> GraphPath {
        guard (1...20).contains(maxDepth) else {
            throw .invalid("max_depth must be between 1 and 20", field: "max_depth")
        }
        try Limits.check(start, "from", maxCharacters: 255)
        try Limits.check(end, "to", maxCharacters: 255)
        let path = try await read { session throws(MemoryError) -> GraphPath? in
            let graph = GraphRepository(session: session)
            guard try graph.nodes([start, end]).count == (start == end ? 1 : 2) else { return nil }
            return try graph.path(from: start, to: end, maxDepth: maxDepth)
        }
        return try Self.found(path)
    }
}
