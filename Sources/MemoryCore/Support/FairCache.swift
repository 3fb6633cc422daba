/// A map of limited cost in which everyone has a share: when it is full, whoever has most gives up what it used longest ago. One
/// who takes less than an equal share therefore loses nothing to the others, and while there is room nobody does. Not safe for
/// two threads: its owner holds a lock.
struct FairCache<Group: Hashable, Key: Hashable, Value> {
    private struct Share {
        var cache: LRUCache<Key, Value>
        /// Where it stands in the heap.
        var place: Int
    }

    private let capacity: Int
    private var shares: [Group: Share] = [:]
    /// Whoever has most is first: a binary heap by cost.
    private var heap: [Group] = []
    /// How many entries had to go for others.
    private(set) var evicted = 0
    /// The cost of everything that is kept.
    private(set) var cost = 0

    /// A cache whose entries cost at most `capacity` together.
    init(capacity: Int) { self.capacity = max(1, capacity) }

    /// Every key of a group, in no order.
    func keys(of group: Group) -> [Key] { shares[group].map { Array($0.cache.keys) } ?? [] }

    /// Every group that has something.
    var groups: some Sequence<Group> { shares.keys }

    mutating func value(for key: Key, of group: Group) -> Value? { shares[group]?.cache.value(for: key) }

    /// Keeps a value. One that costs more than the whole cache is not kept, and what was there before it is gone.
    mutating func insert(_ value: Value, for key: Key, of group: Group, cost: Int) {
        removeValue(for: key, of: group)
        guard cost <= capacity else { return }
        if shares[group] == nil {
            shares[group] = Share(cache: LRUCache(capacity: capacity), place: heap.count)
            heap.append(group)
        }
        change(group) { $0.insert(value, for: key, cost: cost) }
        while self.cost > capacity, let most = heap.first {
            // Its own newest entry goes only when the group has nothing else, which is when it is the greatest of all.
            change(most) { $0.removeOldest() }
            evicted += 1
        }
    }

    mutating func removeValue(for key: Key, of group: Group) {
        guard shares[group] != nil else { return }
        change(group) { $0.removeValue(for: key) }
    }

    /// Changes a group's share, and brings the heap in order.
    private mutating func change(_ group: Group, _ body: (inout LRUCache<Key, Value>) -> Void) {
        guard let place = shares[group]?.place, let before = shares[group]?.cache.cost else { return }
        // The default is never there; by it the share is changed in its place.
        body(&shares[group, default: Share(cache: LRUCache(capacity: capacity), place: place)].cache)
        let after = shares[group]?.cache.cost ?? 0
        cost += after - before
        guard after > 0 else { return remove(group, at: place) }
        if after > before { rise(place) } else { sink(place) }
    }

    private mutating func remove(_ group: Group, at place: Int) {
        shares[group] = nil
        guard let last = heap.popLast(), last != group else { return }
        put(last, at: place)
        rise(place)
        sink(shares[last]?.place ?? place)
    }

    // MARK: The heap

    private func cost(at place: Int) -> Int { shares[heap[place]]?.cache.cost ?? 0 }

    private mutating func put(_ group: Group, at place: Int) {
        heap[place] = group
        shares[group]?.place = place
    }

    private mutating func swap(_ first: Int, _ second: Int) {
        let (one, other) = (heap[first], heap[second])
        put(one, at: second)
        put(other, at: first)
    }

    private mutating func rise(_ start: Int) {
        var place = start
        while place > 0, cost(at: place) > cost(at: (place - 1) / 2) {
            swap(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    private mutating func sink(_ start: Int) {
        var place = start
        while 2 * place + 1 < heap.count {
            var child = 2 * place + 1
            if child + 1 < heap.count, cost(at: child + 1) > cost(at: child) { child += 1 }
            guard cost(at: child) > cost(at: place) else { return }
            swap(place, child)
            place = child
        }
    }
}
