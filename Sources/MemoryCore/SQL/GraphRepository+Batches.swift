/// Many nodes and edges in one statement each.
///
/// PostgreSQL locks them in the order of their keys, nodes before edges, whatever the order of the request: two writers of
/// the same rows wait for each other, and never in a circle.
extension GraphRepository {
    /// Stores nodes. Of two with one id the later counts.
    ///
    /// - Returns: a node for each that was given, in the same order.
    func put(_ nodes: [GraphNode]) throws(MemoryError) -> [GraphNode] {
        let distinct = Dictionary(nodes.map { (Array($0.id.utf8), $0) }, uniquingKeysWith: { _, last in last })
        var stored: [[UInt8]: GraphNode] = [:]
        for node in try putDistinct(Array(distinct.values)) { stored[Array(node.id.utf8)] = node }
        return nodes.compactMap { stored[Array($0.id.utf8)] }
    }

    private func putDistinct(_ nodes: [GraphNode]) throws(MemoryError) -> [GraphNode] {
        guard session.dialect == .postgres else { return try nodes.map { node throws(MemoryError) in try put(node) } }
        return try session.query(
            """
            INSERT INTO graph_nodes (node_id, node_type, properties)
            SELECT node_id, node_type, properties::jsonb
            FROM unnest($1::text[], $2::text[], $3::text[]) AS t (node_id, node_type, properties) ORDER BY node_id
            ON CONFLICT (node_id) DO UPDATE SET node_type = excluded.node_type, properties = excluded.properties,
                updated_at = #now()
            RETURNING node_id, node_type, #json(properties), #time(created_at), #time(updated_at)
            """,
            [
                .texts(nodes.map(\.id)), .texts(nodes.map(\.type)), .texts(nodes.map(\.properties.encodedText)),
            ]
        ).map(Self.node)
    }

    /// Stores edges. Of two with one triple the later counts.
    ///
    /// - Returns: an edge for each that was given, in the same order.
    /// - Throws: ``MemoryError`` with `unprocessable` when a node is missing.
    func put(_ edges: [GraphEdge]) throws(MemoryError) -> [GraphEdge] {
        let distinct = Dictionary(edges.map { (Triple($0), $0) }, uniquingKeysWith: { _, last in last })
        var stored: [Triple: GraphEdge] = [:]
        for edge in try putDistinct(Array(distinct.values)) { stored[Triple(edge)] = edge }
        return edges.compactMap { stored[Triple($0)] }
    }

    private func putDistinct(_ edges: [GraphEdge]) throws(MemoryError) -> [GraphEdge] {
        guard session.dialect == .postgres else { return try edges.map { edge throws(MemoryError) in try put(edge) } }
        return try session.query(
            """
            INSERT INTO graph_edges (from_node_id, to_node_id, edge_type, properties)
            SELECT source, target, edge_type, properties::jsonb
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS t (source, target, edge_type, properties)
            ORDER BY source, target, edge_type
            ON CONFLICT (from_node_id, to_node_id, edge_type) DO UPDATE SET properties = excluded.properties
            RETURNING from_node_id, to_node_id, edge_type, #json(properties), #time(created_at)
            """, Self.triples(edges) + [.texts(edges.map(\.properties.encodedText))]
        ).map(Self.edge)
    }

    // MARK: What a run names

    /// Makes nodes for the ids that have none, whatever its type, and keeps all of them until the transaction ends.
    func hold(_ named: [(id: String, type: String)]) throws(MemoryError) {
        let types = Dictionary(named.map { (Array($0.id.utf8), $0) }, uniquingKeysWith: { first, _ in first })
        let nodes = Array(types.values)
        // A node that is being deleted is there until it is gone; then it can be made again.
        for _ in 0..<3 {
            try insertMissing(nodes)
            guard session.dialect == .postgres else { return }
            let held = try session.query(
                "SELECT 1 FROM graph_nodes WHERE node_id = ANY ($1::text[]) ORDER BY node_id FOR KEY SHARE",
                [.texts(nodes.map(\.id))])
            if held.count == nodes.count { return }
        }
    }

    private func insertMissing(_ nodes: [(id: String, type: String)]) throws(MemoryError) {
        try session.execute(
            SQL(
                postgres: """
                    INSERT INTO graph_nodes (node_id, node_type, properties)
                    SELECT node_id, node_type, '{}' FROM unnest($1::text[], $2::text[]) AS t (node_id, node_type)
                    ORDER BY node_id ON CONFLICT (node_id) DO NOTHING
                    """,
                sqlite: """
                    INSERT INTO graph_nodes (node_id, node_type, properties)
                    SELECT ids.value, types.value, '{}' FROM json_each($1) ids JOIN json_each($2) types USING (key)
                    WHERE true ON CONFLICT (node_id) DO NOTHING
                    """), [.texts(nodes.map(\.id)), .texts(nodes.map(\.type))])
    }

    /// Makes edges that are missing; those that are there keep their properties, and stay until the transaction ends.
    func hold(_ edges: [GraphEdge]) throws(MemoryError) {
        try session.execute(
            SQL(
                postgres: """
                    INSERT INTO graph_edges (from_node_id, to_node_id, edge_type, properties)
                    SELECT source, target, edge_type, '{}'
                    FROM unnest($1::text[], $2::text[], $3::text[]) AS t (source, target, edge_type)
                    ORDER BY source, target, edge_type
                    ON CONFLICT (from_node_id, to_node_id, edge_type) DO UPDATE SET edge_type = excluded.edge_type
                    """,
                sqlite: """
                    INSERT INTO graph_edges (from_node_id, to_node_id, edge_type, properties)
                    SELECT sources.value, targets.value, types.value, '{}' FROM json_each($1) sources
                    JOIN json_each($2) targets USING (key) JOIN json_each($3) types USING (key)
                    WHERE true ON CONFLICT (from_node_id, to_node_id, edge_type) DO NOTHING
                    """), Self.triples(edges))
    }

    /// Locks the edges that are there, in the order of their keys.
    func lock(_ edges: [GraphEdge]) throws(MemoryError) {
        guard session.dialect == .postgres else { return }
        _ = try session.query(
            """
            SELECT 1 FROM graph_edges e JOIN unnest($1::text[], $2::text[], $3::text[]) AS t (source, target, edge_type)
                ON e.from_node_id = t.source AND e.to_node_id = t.target AND e.edge_type = t.edge_type
            ORDER BY e.from_node_id, e.to_node_id, e.edge_type FOR UPDATE OF e
            """, Self.triples(edges))
    }

    private static func triples(_ edges: [GraphEdge]) -> [SQLValue] {
        [.texts(edges.map(\.from)), .texts(edges.map(\.to)), .texts(edges.map(\.type))]
    }

    /// What makes an edge the same, byte for byte: equal strings of Swift may be different ids.
    struct Triple: Hashable {
        private let parts: [[UInt8]]

        init(_ edge: GraphEdge) { parts = [edge.from, edge.to, edge.type].map { Array($0.utf8) } }
    }
}
