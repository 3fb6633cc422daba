/// A thing in the graph.
public struct GraphNode: Sendable {
    /// Its id, as in `coda:task-123`, at most 255 characters.
    public var id: String
    /// What it is: `project`, `process_template`, … . At most 50 characters.
    public var type: String
    /// Anything else, at most 64 KiB of JSON.
    public var properties: JSONObject
    /// When it was first stored; nil before.
    public internal(set) var createdAt: Timestamp?
    /// When it was last changed; nil before it is stored.
    public internal(set) var updatedAt: Timestamp?

    /// A node.
    public init(id: String, type: String, properties: JSONObject = JSONObject()) {
        self.id = id
        self.type = type
        self.properties = properties
    }

    func validate() throws(MemoryError) {
        try Limits.check(id, "node_id", maxCharacters: 255)
        try Limits.check(type, "node_type", maxCharacters: 50)
        try Limits.check(metadata: properties, field: "properties", maxBytes: 64 << 10)
    }
}

/// How two nodes are connected. There is one edge of a type from one node to another.
public struct GraphEdge: Sendable {
    /// Where it begins.
    public var from: String
    /// Where it ends.
    public var to: String
    /// What it says: `run_belongs_to_project`. At most 50 characters.
    public var type: String
    /// Anything else, at most 64 KiB of JSON.
    public var properties: JSONObject
    /// When it was first stored; nil before.
    public internal(set) var createdAt: Timestamp?

    /// An edge.
    public init(from: String, to: String, type: String, properties: JSONObject = JSONObject()) {
        self.from = from
        self.to = to
        self.type = type
        self.properties = properties
    }

    func validate() throws(MemoryError) {
        try Limits.check(from, "from_node_id", maxCharacters: 255)
        try Limits.check(to, "to_node_id", maxCharacters: 255)
        try Limits.check(type, "edge_type", maxCharacters: 50)
        try Limits.check(metadata: properties, field: "properties", maxBytes: 64 << 10)
    }
}

/// Which neighbours of a node are wanted.
public struct NeighborQuery: Sendable {
    /// Which edges are followed.
    public enum Direction: String, Sendable, CaseIterable {
        /// Those that end at the node.
        case incoming
        /// Those that begin at the node.
        case outgoing
        /// All.
        case both
    }

    /// The node.
    public var nodeID: String
    /// Only edges of this type.
    public var edgeType: String?
    /// Which edges are followed.
    public var direction = Direction.both
    /// How many edges away at most, 1...5.
    public var depth = 1

    /// The direct neighbours of a node.
    public init(nodeID: String) { self.nodeID = nodeID }

    func validate() throws(MemoryError) {
        try Limits.check(nodeID, "entity_id", maxCharacters: 255)
        if let edgeType { try Limits.check(edgeType, "edge_type", maxCharacters: 50) }
        guard (1...5).contains(depth) else { throw .invalid("depth must be between 1 and 5", field: "depth") }
    }
}

/// A node near another.
public struct GraphNeighbor: Sendable {
    /// The node.
    public let node: GraphNode
    /// The type of the edge that led to it.
    public let edgeType: String
    /// Whether that edge begins (`outgoing`) or ends (`incoming`) at the node nearer to the one that was asked for.
    public let direction: NeighborQuery.Direction
    /// How many edges away it is.
    public let depth: Int
    /// How many runs used it; nil for anything but a process template.
    public let executionRuns: Int?
}

/// A shortest way from one node to another.
public struct GraphPath: Sendable {
    /// The nodes, both ends included.
    public let nodes: [GraphNode]
    /// The edges between them, as they are stored: one may be walked against its direction.
    public let edges: [GraphEdge]
}
