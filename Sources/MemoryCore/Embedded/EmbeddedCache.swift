import Synchronization

/// Short-term memory in this process: values expire. When memory is full, the client that has most gives up what it used
/// longest ago, so that no client can push out what another keeps within its share.
final class EmbeddedCache: ShortTermStore {
    let name = MemoryError.Store.memoryCache

    private struct Entry {
        let content: Content
        var expiry: ContinuousClock.Instant
    }

    /// A value, or what is not written as one piece.
    private enum Content {
        case value([UInt8])
        case list(List)
        case arrival(Int64)
    }

    /// A list that is changed in place: adding to a long one costs what adding to a short one does.
    private final class List {
        var values: [[UInt8]] = []
        var bytes = 0
    }

    /// What an entry costs beside its key and value.
    private static let overhead = 128

    private let entries: Mutex<FairCache<String, String, Entry>>
    /// Another life has another name, as with a server.
    private let life: UInt64
    var epoch: UInt64? { life }
    private let surroundings: any Surroundings

    init(maxBytes: Int, surroundings: any Surroundings = SystemSurroundings()) {
        entries = Mutex(FairCache(capacity: maxBytes))
        life = surroundings.random()
        self.surroundings = surroundings
    }

    func get(_ keys: [String], deadline: Deadline) async throws(MemoryError) -> ShortTermValues {
        let values = entries.withLock { entries in
            keys.map { key -> [UInt8]? in
                guard case .value(let value)? = live(key, &entries)?.content else { return nil }
                return value
            }
        }
        return ShortTermValues(values: values, epoch: life)
    }

    private func live(_ key: String, _ entries: inout FairCache<String, String, Entry>) -> Entry? {
        guard let entry = entries.value(for: key, of: Self.group(key)) else { return nil }
        guard entry.expiry <= surroundings.instant else { return entry }
        entries.removeValue(for: key, of: Self.group(key))
        return nil
    }

    /// Whose a key is: what stands in its braces, as in a cluster of servers. Keys without braces are one group.
    private static func group(_ key: String) -> String {
        guard let open = key.utf8.firstIndex(of: UInt8(ascii: "{")),
            let close = key.utf8[open...].firstIndex(of: UInt8(ascii: "}"))
        else { return "" }
        return String(key[open...close])
    }

    func set(_ new: [ShortTermEntry], deadline: Deadline) async throws(MemoryError) {
        try await replace(removing: [], with: new, publishing: [], deadline: deadline)
    }

    func replace(
        removing keys: [String], with new: [ShortTermEntry], publishing: [ShortTermPublication], deadline: Deadline
    ) async throws(MemoryError) {
        entries.withLock { entries in
            for key in keys { entries.removeValue(for: key, of: Self.group(key)) }
            for entry in new {
                if entry.onlyIfAbsent, let old = entries.value(for: entry.key, of: Self.group(entry.key)),
                    old.expiry > surroundings.instant
                {
                    continue
                }
                entries.insert(
                    Entry(content: .value(entry.value), expiry: surroundings.instant + entry.timeToLive),
                    for: entry.key, of: Self.group(entry.key),
                    cost: entry.key.utf8.count + entry.value.count + Self.overhead)
            }
        }
    }

    func get(touching key: String, timeToLive: Duration, deadline: Deadline) async throws(MemoryError) -> [UInt8]? {
        entries.withLock { entries in
            guard let entry = live(key, &entries), case .value(let value) = entry.content else { return nil }
            entries.insert(
                Entry(content: entry.content, expiry: surroundings.instant + timeToLive), for: key, of: Self.group(key),
                cost: key.utf8.count + value.count + Self.overhead)
            return value
        }
    }

    func remove(_ keys: [String], deadline: Deadline) async throws(MemoryError) -> Int {
        entries.withLock { entries in
            keys.count { key in
                defer { entries.removeValue(for: key, of: Self.group(key)) }
                return live(key, &entries) != nil
            }
        }
    }

    func removeAll(prefix: String, deadline: Deadline) async throws(MemoryError) -> Int {
        entries.withLock { entries in
            let group = Self.group(prefix)
            let keys = (group.isEmpty ? Array(entries.groups) : [group]).flatMap { entries.keys(of: $0) }
                .filter { $0.hasPrefix(prefix) }
            for key in keys { entries.removeValue(for: key, of: Self.group(key)) }
            return keys.count
        }
    }

    func append(
        _ values: [[UInt8]], to key: String, keepingLast count: Int, timeToLive: Duration, deadline: Deadline
    ) async throws(MemoryError) -> Int {
        entries.withLock { entries in
            var list = List()
            if case .list(let known)? = live(key, &entries)?.content { list = known }
            list.values += values
            list.bytes += values.reduce(0) { $0 + $1.count }
            let surplus = max(0, list.values.count - count)
            list.bytes -= list.values[..<surplus].reduce(0) { $0 + $1.count }
            list.values.removeFirst(surplus)
            entries.insert(
                Entry(content: .list(list), expiry: surroundings.instant + timeToLive), for: key, of: Self.group(key),
                cost: key.utf8.count + list.bytes + list.values.count * 48 + Self.overhead)
            return list.values.count
        }
    }

    func last(
        _ count: Int, of key: String, timeToLive: Duration, deadline: Deadline
    ) async throws(MemoryError) -> [[UInt8]] {
        let values: [[UInt8]]? = entries.withLock { entries in
            guard let entry = live(key, &entries), case .list(let list) = entry.content else { return nil }
            return Array(list.values.suffix(count))
        }
        guard let values else { return [] }
        _ = try await append([], to: key, keepingLast: .max, timeToLive: timeToLive, deadline: deadline)
        return values
    }

    func take(_ key: String, _ limit: RateLimit, deadline: Deadline) async throws(MemoryError) -> Duration? {
        entries.withLock { entries in
            let now = surroundings.now.microseconds
            var arrival = now
            if case .arrival(let known)? = live(key, &entries)?.content { arrival = known }
            let wait = limit.take(&arrival, now: now)
            entries.insert(
                Entry(content: .arrival(arrival), expiry: surroundings.instant + .microseconds(max(1, arrival - now))),
                for: key, of: Self.group(key), cost: key.utf8.count + Self.overhead)
            return wait
        }
    }

    func evicted(deadline: Deadline) async throws(MemoryError) -> Int { entries.withLock { $0.evicted } }

    func ping(deadline: Deadline) async throws(MemoryError) {}

    func close() async {}
}
