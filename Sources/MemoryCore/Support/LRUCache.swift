/// A map of limited cost that forgets what was used longest ago. Not safe for two threads: its owner holds a lock.
struct LRUCache<Key: Hashable, Value> {
    private struct Node {
        var key: Key
        var value: Value
        var cost: Int
        var newer: Int?
        var older: Int?
    }

    private let capacity: Int
    private var nodes: [Node?] = []
    private var free: [Int] = []
    private var places: [Key: Int] = [:]
    private var newest: Int?
    private var oldest: Int?
    /// How many entries had to go for others.
    private(set) var evicted = 0
    /// The cost of everything that is kept.
    private(set) var cost = 0

    /// A cache whose entries cost at most `capacity` together; with the usual cost of 1 that is their number.
    init(capacity: Int) { self.capacity = max(1, capacity) }

    var count: Int { places.count }

    /// Every key, in no order.
    var keys: some Sequence<Key> { places.keys }

    mutating func value(for key: Key) -> Value? {
        guard let place = places[key] else { return nil }
        if newest != place {
            unlink(place)
            linkAtFront(place)
        }
        return nodes[place]?.value
    }

    /// Keeps a value. One that costs more than the whole cache is not kept, and what was there before it is gone.
    mutating func insert(_ value: Value, for key: Key, cost: Int = 1) {
        removeValue(for: key)
        guard cost <= capacity else { return }
        while self.cost + cost > capacity, let place = oldest, let node = nodes[place] {
            removeValue(for: node.key)
            evicted += 1
        }
        let node = Node(key: key, value: value, cost: cost)
        let place: Int
        if let reused = free.popLast() {
            place = reused
            nodes[place] = node
        } else {
            place = nodes.count
            nodes.append(node)
        }
        places[key] = place
        self.cost += cost
        linkAtFront(place)
    }

    mutating func removeOldest() {
        if let place = oldest, let node = nodes[place] { removeValue(for: node.key) }
    }

    mutating func removeValue(for key: Key) {
        guard let place = places.removeValue(forKey: key) else { return }
        unlink(place)
        cost -= nodes[place]?.cost ?? 0
        nodes[place] = nil
        free.append(place)
    }

    private mutating func unlink(_ place: Int) {
        let (newer, older) = (nodes[place]?.newer, nodes[place]?.older)
        if let newer { nodes[newer]?.older = older } else { newest = older }
        if let older { nodes[older]?.newer = newer } else { oldest = newer }
    }

    private mutating func linkAtFront(_ place: Int) {
        nodes[place]?.newer = nil
        nodes[place]?.older = newest
        if let newest { nodes[newest]?.newer = place }
        newest = place
        if oldest == nil { oldest = place }
    }
}
