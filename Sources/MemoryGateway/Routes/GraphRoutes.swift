import Hummingbird
import MemoryCore

enum GraphRoutes {
    private static let path = "/api/v1/memory/graph"
    private static let nodeID = Schema.string(1...255)
    private static let node = Endpoint.Parameter.path(
        "node_id", nodeID, "The node's id; a `/` in it is `%2F`.", example: "coda:task-123")

    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .put, path: path + "/nodes/{node_id}", tag: "Graph", summary: "Stores a node", tenancy: .shared,
            writes: true, parameters: [node], body: .json("GraphNodeDraft"), answers: [.ok("GraphNode")], errors: [413]
        ) { call in
            let node = try GraphNode(call.body, id: try call.text("node_id"))
            return .json(try await call.memory.putNode(node).json.encoded)
        },
        Endpoint(
            method: .get, path: path + "/nodes/{node_id}", tag: "Graph", summary: "One node", tenancy: .shared,
            writes: false, parameters: [node], answers: [.ok("GraphNode")], errors: [404]
        ) { call in .json(try await call.memory.node(try call.text("node_id")).json.encoded) },
        Endpoint(
            method: .delete, path: path + "/nodes/{node_id}", tag: "Graph", summary: "Deletes a node with its edges",
            tenancy: .shared, writes: true, parameters: [node], answers: [.gone], errors: [404]
        ) { call in
            try await call.memory.deleteNode(try call.text("node_id"))
            return Response(status: .noContent)
        },
        Endpoint(
            method: .put, path: path + "/edges", tag: "Graph", summary: "Stores an edge; there is one of each triple",
            tenancy: .shared, writes: true, body: .json("GraphEdgeDraft"), answers: [.ok("GraphEdge")],
            errors: [413, 422]
        ) { call in .json(try await call.memory.putEdge(try GraphEdge(call.body)).json.encoded) },
        Endpoint(
            method: .delete, path: path + "/edges", tag: "Graph", summary: "Deletes an edge", tenancy: .shared,
            writes: true,
            parameters: [
                .query("from_node_id", nodeID, "Where it begins.", example: "coda:task-123", isRequired: true),
                .query("to_node_id", nodeID, "Where it ends.", example: "coda:project-7", isRequired: true),
                .query("edge_type", Schema.string(1...50), "What it says.", example: "belongs_to", isRequired: true),
            ], answers: [.gone], errors: [404]
        ) { call in
            try await call.memory.deleteEdge(try GraphEdge(call.query))
            return Response(status: .noContent)
        },
        Endpoint(
            method: .post, path: path + "/batch", tag: "Graph", summary: "Stores nodes and edges, all or nothing",
            tenancy: .shared, writes: true, body: .json("GraphBatchDraft", maxBytes: 16 << 20),
            answers: [.created("GraphBatch")], errors: [413, 422], handle: batch),
        Endpoint(
            method: .get, path: path + "/neighbors", tag: "Graph", summary: "The nodes around a node", tenancy: .shared,
            writes: false,
            parameters: [
                .query("entity_id", nodeID, "The node.", example: "coda:task-123", isRequired: true),
                .query("edge_type", Schema.string(1...50), "Only edges of this type.", example: "belongs_to"),
                .query(
                    "direction", Schema.choice(NeighborQuery.Direction.self),
                    "Which edges to follow; both unless given.", example: "both"),
                .query("depth", Schema.integer(1...5), "How many edges away at most; 1 unless given.", example: 1),
            ], answers: [.ok("GraphNeighbors")], errors: [404], handle: neighbors),
        Endpoint(
            method: .get, path: path + "/path", tag: "Graph", summary: "A shortest path between two nodes",
            tenancy: .shared, writes: false,
            parameters: [
                .query("from", nodeID, "Where it begins.", example: "coda:task-123", isRequired: true),
                .query("to", nodeID, "Where it ends.", example: "coda:project-7", isRequired: true),
                .query("max_depth", Schema.integer(1...20), "How many edges at most; 6 unless given.", example: 6),
            ], answers: [.ok("GraphPath")], errors: [404]
        ) { call in
            let path = try await call.memory.path(
                from: try call.queryFields.requiredString("from"), to: try call.queryFields.requiredString("to"),
                maxDepth: try call.queryFields.int("max_depth") ?? 6)
            return .json(path.json.encoded)
        },
    ]

    @Sendable private static func batch(_ call: Call) async throws -> Response {
        let nodes = try items("nodes", call.body).map { try GraphNode($0) }
        let edges = try items("edges", call.body).map { try GraphEdge($0) }
        let stored = try await call.memory.putGraph(nodes: nodes, edges: edges)
        let body: JSON = ["nodes": .array(stored.nodes.map(\.json)), "edges": .array(stored.edges.map(\.json))]
        return .json(body.encoded, status: .created)
    }

    private static func items(_ name: String, _ body: JSONObject) throws(MemoryError) -> [JSONObject] {
        guard let list = FieldReader(body)[name] else { return [] }
        let objects = list.array?.compactMap(\.object)
        guard let objects, objects.count == list.array?.count else {
            throw MemoryError(invalid: "\(name) must be a list of objects", field: name)
        }
        return objects
    }

    @Sendable private static func neighbors(_ call: Call) async throws -> Response {
        var query = NeighborQuery(nodeID: try call.queryFields.requiredString("entity_id"))
        query.edgeType = try call.queryFields.string("edge_type")
        query.direction = try call.queryFields.choice("direction", NeighborQuery.Direction.self) ?? .both
        query.depth = try call.queryFields.int("depth") ?? 1
        let neighbors = try await call.memory.neighbors(query)
        let body: JSON = ["entity_id": .string(query.nodeID), "neighbors": .array(neighbors.map(\.json))]
        return .json(body.encoded)
    }

    private static let nodeFields: KeyValuePairs<String, JSON> = [
        "node_type": Schema.string(1...50), "properties": Schema.anyObject,
    ]
    private static let edgeFields: KeyValuePairs<String, JSON> = [
        "from_node_id": nodeID, "to_node_id": nodeID, "edge_type": Schema.string(1...50),
        "properties": Schema.anyObject,
    ]

    static let schemas: [(String, JSON)] = [
        (
            "GraphNodeDraft",
            Schema.draft(
                nodeFields, optional: ["properties"],
                example: ["node_type": "task", "properties": ["title": "Invoices"]])
        ),
        (
            "GraphNode",
            Schema.object([
                "node_id": nodeID, "node_type": Schema.string(), "properties": Schema.anyObject,
                "created_at": Schema.timestamp, "updated_at": Schema.timestamp,
            ])
        ),
        (
            "GraphEdgeDraft",
            Schema.draft(
                edgeFields, optional: ["properties"],
                example: ["from_node_id": "coda:task-123", "to_node_id": "coda:project-7", "edge_type": "belongs_to"])
        ),
        (
            "GraphEdge",
            Schema.object([
                "from_node_id": nodeID, "to_node_id": nodeID, "edge_type": Schema.string(),
                "properties": Schema.anyObject, "created_at": Schema.timestamp,
            ])
        ),
        (
            "GraphBatchDraft",
            Schema.draft(
                [
                    "nodes": Schema.array(
                        Schema.draft(
                            ["node_id": nodeID, "node_type": Schema.string(1...50), "properties": Schema.anyObject],
                            optional: ["properties"]), 0...1000),
                    "edges": Schema.array(Schema.ref("GraphEdgeDraft"), 0...1000),
                ], optional: ["nodes", "edges"],
                example: ["nodes": [["node_id": "coda:task-123", "node_type": "task"]], "edges": []])
        ),
        (
            "GraphBatch",
            Schema.object([
                "nodes": Schema.array(Schema.ref("GraphNode")), "edges": Schema.array(Schema.ref("GraphEdge")),
            ])
        ),
        (
            "GraphNeighbors",
            Schema.object([
                "entity_id": nodeID,
                "neighbors": Schema.array(
                    Schema.object(
                        [
                            "node_id": nodeID, "node_type": Schema.string(), "edge_type": Schema.string(),
                            "direction": Schema.choice(["incoming", "outgoing"]), "properties": Schema.anyObject,
                            "depth": Schema.integer(1...5), "execution_runs": Schema.integer(),
                        ], optional: ["execution_runs"])),
            ])
        ),
        (
            "GraphPath",
            Schema.object([
                "length": Schema.integer(0...20), "nodes": Schema.array(Schema.ref("GraphNode")),
                "edges": Schema.array(Schema.ref("GraphEdge")),
            ])
        ),
    ]
}

extension GraphNode {
    fileprivate init(_ object: JSONObject, id: String? = nil) throws(MemoryError) {
        let fields = FieldReader(object)
        var nodeID = id ?? ""
        if id == nil { nodeID = try fields.requiredString("node_id") }
        self.init(
            id: nodeID, type: try fields.requiredString("node_type"),
            properties: try fields.object("properties") ?? JSONObject())
    }

    fileprivate var json: JSON {
        [
            "node_id": .string(id), "node_type": .string(type), "properties": .object(properties),
            "created_at": .optional(createdAt), "updated_at": .optional(updatedAt),
        ]
    }
}

extension GraphEdge {
    fileprivate init(_ object: JSONObject) throws(MemoryError) {
        let fields = FieldReader(object)
        self.init(
            from: try fields.requiredString("from_node_id"), to: try fields.requiredString("to_node_id"),
            type: try fields.requiredString("edge_type"), properties: try fields.object("properties") ?? JSONObject())
    }

    fileprivate var json: JSON {
        [
            "from_node_id": .string(from), "to_node_id": .string(to), "edge_type": .string(type),
            "properties": .object(properties), "created_at": .optional(createdAt),
        ]
    }
}

extension GraphNeighbor {
    fileprivate var json: JSON {
        var object: JSONObject = [
            "node_id": .string(node.id), "node_type": .string(node.type), "edge_type": .string(edgeType),
            "direction": .string(direction.rawValue), "properties": .object(node.properties),
            "depth": .int(Int64(depth)),
        ]
        object["execution_runs"] = executionRuns.map { .int(Int64($0)) }
        return .object(object)
    }
}

extension GraphPath {
    fileprivate var json: JSONObject {
        [
            "length": .int(Int64(edges.count)), "nodes": .array(nodes.map(\.json)),
            "edges": .array(edges.map(\.json)),
        ]
    }
}
