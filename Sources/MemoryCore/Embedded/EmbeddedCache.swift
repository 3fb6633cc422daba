import Synchronization

/// Short-term memory in this process: values expire, and the least recently used go first when memory is full.
final class EmbeddedCache: ShortTermStore {
    let name = MemoryError.Store.memoryCache

    private struct Entry {
        let value: [UInt8]
        let expiry: Deadline
    }

    /// What an entry costs beside its key and value.
    private static let overhead = 128

    private let entries: Mutex<LRUCache<String, Entry>>
    /// Another life has another name, as with a server.
    private let epoch = String(UInt64.random(in: .min ... .max))

    init(maxBytes: Int) { entries = Mutex(LRUCache(capacity: maxBytes)) }

    func get(_ keys: [String], deadline: Deadline) async throws(MemoryError) -> ShortTermValues {
        let values = entries.withLock { entries in
            keys.map { key -> [UInt8]? in
                guard let entry = entries.value(for: key) else { return nil }
                guard entry.expiry.hasPassed else { return entry.value }
                entries.removeValue(for: key)
                return nil
            }
        }
        return ShortTermValues(values: values, epoch: epoch)
    }

    func set(_ new: [ShortTermEntry], deadline: Deadline) async throws(MemoryError) {
        try await replace(removing: [], with: new, deadline: deadline)
    }

    func replace(
        removing keys: [String], with new: [ShortTermEntry], deadline: Deadline
    ) async throws(MemoryError) {
        entries.withLock { entries in
            for key in keys { entries.removeValue(for: key) }
            for entry in new {
                if entry.onlyIfAbsent, let old = entries.value(for: entry.key), !old.expiry.hasPassed { continue }
                entries.insert(
                    Entry(value: entry.value, expiry: .after(entry.timeToLive)), for: entry.key,
                    cost: entry.key.utf8.count + entry.value.count + Self.overhead)
            }
        }
    }

    func ping(deadline: Deadline) async throws(MemoryError) {}

    func close() async {}
}
