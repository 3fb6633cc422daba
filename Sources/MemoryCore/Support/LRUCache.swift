/// A map of limited size that forgets what was used longest ago. Not safe for two threads: its owner holds a lock.
struct LRUCache<Key: Hashable, Value> {
    private struct Node {
        var key: Key
        var value: Value
        var newer: Int?
        var older: Int?
    }

    private let capacity: Int
    private var nodes: [Node] = []
    private var places: [Key: Int] = [:]
    private var newest: Int?
    private var oldest: Int?

    /// - Parameter capacity: how many entries to keep, at least 1.
    init(capacity: Int) { self.capacity = max(1, capacity) }

    var count: Int { places.count }

    mutating func value(for key: Key) -> Value? {
        guard let place = places[key] else { return nil }
        moveToFront(place)
        return nodes[place].value
    }

    mutating func insert(_ value: Value, for key: Key) {
        if let place = places[key] {
            nodes[place].value = value
            moveToFront(place)
        } else if nodes.count < capacity {
            nodes.append(Node(key: key, value: value))
            places[key] = nodes.count - 1
            linkAtFront(nodes.count - 1)
        } else if let place = oldest {
            unlink(place)
            places[nodes[place].key] = nil
            nodes[place] = Node(key: key, value: value)
            places[key] = place
            linkAtFront(place)
        }
    }

    mutating func removeAll() {
        nodes = []
        places = [:]
        (newest, oldest) = (nil, nil)
    }

    private mutating func moveToFront(_ place: Int) {
        guard newest != place else { return }
        unlink(place)
        linkAtFront(place)
    }

    private mutating func unlink(_ place: Int) {
        let node = nodes[place]
        if let newer = node.newer { nodes[newer].older = node.older } else { newest = node.older }
        if let older = node.older { nodes[older].newer = node.newer } else { oldest = node.newer }
    }

    private mutating func linkAtFront(_ place: Int) {
        nodes[place].newer = nil
        nodes[place].older = newest
        if let newest { nodes[newest].newer = place }
        newest = place
        if oldest == nil { oldest = place }
    }
}
