import Logging
import Metrics
import Synchronization

/// The short-term copy of records, recalls and query vectors, which never serves anything stale.
///
/// Every client has a generation: a random number under a key of its own. A recall is kept together with the generation
/// that was read before it was computed, and counts only while that is still the client's generation; each write sets a
/// new one before it is answered. Random numbers, not a counter: a counter that was evicted or lost in a crash would
/// count through numbers that old entries know. For the same reason an entry also names the history of the server in which
/// it was written, and that of the primary store: either may have lost its last writes, and go on from before them.
///
/// When a new generation cannot be set, this gateway trusts no recall of that client, and no copy of its records, until it
/// could; the outbox goes on trying for the sake of the other gateways.
final class MemoryCache: Sendable {
    private static let recallLife: Duration = .seconds(3600)
    private static let recordLife: Duration = .seconds(24 * 3600)
    let store: any ShortTermStore
    private let prefix: String
    /// Names the history of the records; nil while nobody knows.
    private let lineage: @Sendable () -> UInt64?
    /// What decides about the order of answers beside the request: the model and the weights.
    let ranking: String
    private let budgets: MemoryConfiguration.Budgets
    private let surroundings: any Surroundings
    private let hits = Counter(label: "memory_gateway_cache_hits_total")
    private let misses = Counter(label: "memory_gateway_cache_misses_total")
    private let distrust = Mutex(Distrust())
    /// How many writes of this gateway there were, for each of so many sets of clients.
    private let localWrites = Mutex([UInt32](repeating: 0, count: 1024))

    init(
        _ store: any ShortTermStore, prefix: String, ranking: String, lineage: @escaping @Sendable () -> UInt64?,
        budgets: MemoryConfiguration.Budgets, surroundings: any Surroundings
    ) {
        self.lineage = lineage
        self.store = store
        self.prefix = prefix
        self.ranking = ranking
        self.budgets = budgets
        self.surroundings = surroundings
    }

    /// What every key of a client begins with; the braces keep them in one slot of a cluster.
    func prefix(of clientID: Int) -> String { "\(prefix):{c\(clientID)}:" }

    /// Where the calls of someone are counted.
    func rateKey(_ caller: String) -> String { "\(prefix):rate:\(caller)" }

    // MARK: Generations

    /// Marks everything that was recalled for these clients as old.
    func invalidate(_ clientIDs: Set<Int>, deadline: Deadline) async throws(MemoryError) {
        try await replace(removing: [], records: [], clientIDs: clientIDs, deadline)
    }

    /// Keeps records that were just stored, and marks recalls of their clients as old.
    func keep(_ records: [MemoryRecord], deadline: Deadline) async throws(MemoryError) {
        try await replace(removing: [], records: records, clientIDs: Set(records.map(\.clientID)), deadline)
    }

    /// Drops copies of records, which were deleted or may be old, and marks recalls of these clients as old.
    func drop(_ keys: [RecordKey], of clientIDs: Set<Int>, deadline: Deadline) async throws(MemoryError) {
        try await replace(removing: keys, records: [], clientIDs: clientIDs, deadline)
    }

    private func replace(
        removing keys: [RecordKey], records: [MemoryRecord], clientIDs: Set<Int>, _ deadline: Deadline
    ) async throws(MemoryError) {
        localWrites.withLock { writes in for client in clientIDs { writes[Self.slot(client)] &+= 1 } }
        let entries = copies(of: records) + clientIDs.map { generationEntry($0) }
        let publications = records.map { Memory.publication($0.event) }
        // What could not be replaced before goes now: a new generation says nothing of the copies of single records.
        let (known, old) = distrust.withLock { ($0.failures, $0.records(of: clientIDs)) }
        do {
            try await store.replace(
                removing: (keys + old).map(recordKey), with: entries, publishing: publications,
                deadline: deadline.capped(at: budgets.writeCache))
            distrust.withLock { distrust in
                distrust.trust(clientIDs, asOf: known)
                distrust.writesFail = false
            }
        } catch {
            let written = records.map { RecordKey(id: $0.id, clientID: $0.clientID) }
            distrust.withLock { distrust in
                distrust.note(clientIDs, keys + written)
                distrust.writesFail = true
            }
            throw error
        }
    }

    /// Whether writes succeed; after one that failed, by trying.
    func canWrite() async -> Bool {
        guard distrust.withLock({ $0.writesFail }) else { return true }
        let probe = ShortTermEntry(key: "\(prefix):probe", value: [1], timeToLive: .seconds(1))
        guard (try? await store.set([probe], deadline: .after(budgets.writeCache))) != nil else { return false }
        distrust.withLock { $0.writesFail = false }
        return true
    }

    /// How many writes have failed, once these are too many to tell one client from another; else nil.
    var failuresBeyondMeasure: Int? { distrust.withLock { $0.isFull ? $0.failures : nil } }

    /// Trusts everyone again: what could not be written up to that failure has been written since.
    func trustAgain(asOf failures: Int) {
        distrust.withLock { if $0.failures == failures { $0.forget() } }
    }

    private func generationKey(_ clientID: Int) -> String { "\(prefix(of: clientID))generation" }

    private func generationEntry(_ clientID: Int, onlyIfAbsent: Bool = false) -> ShortTermEntry {
        let key = generationKey(clientID)
        let value = CacheEnvelope.seal([], clientID: clientID, key: key, tag: surroundings.random())
        return ShortTermEntry(key: key, value: value, timeToLive: Self.recordLife, onlyIfAbsent: onlyIfAbsent)
    }

    /// Removes everything that is kept of a client; from now on older recalls are old.
    ///
    /// - Returns: how many values there were.
    func erase(_ clientID: Int, deadline: Deadline) async throws(MemoryError) -> Int {
        let count = try await store.removeAll(prefix: prefix(of: clientID), deadline: deadline)
        try await invalidate([clientID], deadline: deadline)
        return count
    }

    // MARK: Clients whose erasure is owed

    /// Whether a client was erased, and what is kept of it here was not yet.
    func isErased(_ clientID: Int) -> Bool { distrust.withLock { $0.isErased(clientID) } }

    /// Whether there is any such client.
    var hasErased: Bool { distrust.withLock { $0.erased?.isEmpty != true } }

    /// Grows with each erasure that this gateway notes by itself.
    var erasureChanges: Int { distrust.withLock { $0.erasureChanges } }

    /// Notes which clients these are, nil for too many to tell, unless something was noted since.
    func setErased(_ clientIDs: Set<Int>?, asOf changes: Int) {
        distrust.withLock { if $0.erasureChanges == changes { $0.erased = clientIDs } }
    }

    /// Notes that an erasure is owed from now on, or no longer.
    func noteErasure(of clientID: Int, isOwed: Bool) {
        distrust.withLock { distrust in
            distrust.erasureChanges += 1
            if isOwed { distrust.erased?.insert(clientID) } else { distrust.erased?.remove(clientID) }
        }
    }

    /// Tells whoever listens; nobody need be there.
    func publish(_ publications: [ShortTermPublication]) async {
        try? await store.replace(
            removing: [], with: [], publishing: publications, deadline: .after(budgets.writeCache))
    }

    // MARK: Recalls

    /// What was found for a recall.
    enum Lookup: Sendable {
        case hit(EncodedHits)
        /// Nothing; the ticket lets the answer be kept, if there is one.
        case miss(Ticket?)
    }

    /// The right to keep an answer that is computed from now on.
    struct Ticket: Sendable, Hashable {
        let key: String
        fileprivate let tag: UInt64
    }

    /// What recalls have in common that may share one search: the generation, or where the cache cannot tell, the writes
    /// of this gateway.
    enum Flight: Sendable, Hashable {
        case cached(Ticket)
        case uncached(clientID: Int, fingerprint: String, writes: UInt32)
    }

    func flight(_ request: RecallRequest, _ ticket: Ticket?) -> Flight {
        if let ticket { return .cached(ticket) }
        return .uncached(
            clientID: request.clientID, fingerprint: request.fingerprint(ranking),
            writes: localWrites.withLock { $0[Self.slot(request.clientID)] })
    }

    private static func slot(_ clientID: Int) -> Int { clientID & 1023 }

    func lookUp(_ request: RecallRequest, deadline: Deadline) async -> Lookup {
        let lookup = (try? await find(request, deadline.capped(at: budgets.readCache))) ?? .miss(nil)
        if case .hit = lookup { hits.increment() } else { misses.increment() }
        return lookup
    }

    private func find(_ request: RecallRequest, _ deadline: Deadline) async throws(MemoryError) -> Lookup {
        let clientID = request.clientID
        if distrust.withLock({ $0.contains(clientID) }) {
            try await invalidate([clientID], deadline: deadline)
        }
        let key = "\(prefix(of: clientID))recall:\(request.fingerprint(ranking))"
        let generationKey = generationKey(clientID)
        let found = try await store.get([generationKey, key], deadline: deadline)
        guard let bytes = found.values[0],
            let generation = CacheEnvelope.open(bytes, clientID: clientID, key: generationKey)?.tag
        else {
            // Garbage under the key is replaced as well; whoever comes first decides, and the next recall is kept.
            try await store.set(
                [generationEntry(clientID, onlyIfAbsent: found.values[0] == nil)], deadline: deadline)
            return .miss(nil)
        }
        guard let tag = tag(epoch: found.epoch, generation: generation) else { return .miss(nil) }
        guard let bytes = found.values[1], let entry = CacheEnvelope.open(bytes, clientID: clientID, key: key),
            entry.tag == tag, entry.payload.count >= 8
        else { return .miss(Ticket(key: key, tag: tag)) }
        let count = Int(clamping: UInt64(entry.payload[..<8]))
        return .hit(EncodedHits(count: count, json: Array(entry.payload.dropFirst(8))))
    }

    /// What a value must have been kept under to count: the histories of both stores, because either may have lost its last
    /// writes; and, where it answers a recall, the client's generation. Nil while nobody knows the primary store's.
    private func tag(epoch: UInt64, generation: UInt64 = 0) -> UInt64? { lineage().map { $0 ^ epoch ^ generation } }

    /// Keeps an answer, for as long as none of its memories expires, and the vector of its question if that is new.
    func keep(
        _ answer: EncodedHits, _ ticket: Ticket, of clientID: Int, until expiry: Timestamp?, _ vector: QueryVector?
    ) async {
        var entries: [ShortTermEntry] = []
        if let vector, vector.isNew { entries.append(entry(vector, clientID)) }
        var life = Self.recallLife
        if let expiry { life = min(life, .microseconds(expiry.microseconds &- surroundings.now.microseconds)) }
        if life > .zero { entries.append(entry(answer, ticket, clientID, life)) }
        guard !entries.isEmpty else { return }
        try? await store.set(entries, deadline: .after(budgets.writeCache))
    }

    private func entry(
        _ answer: EncodedHits, _ ticket: Ticket, _ clientID: Int, _ life: Duration
    ) -> ShortTermEntry {
        let payload = UInt64(answer.count).bytes + answer.json
        let value = CacheEnvelope.seal(payload, clientID: clientID, key: ticket.key, tag: ticket.tag)
        // Up to a tenth less, so that entries of one moment do not all expire in another.
        return ShortTermEntry(key: ticket.key, value: value, timeToLive: life * surroundings.random(in: 0.9...1))
    }

    // MARK: Records

    private func recordKey(_ key: RecordKey) -> String { "\(prefix(of: key.clientID))memory:\(key.id)" }

    /// None, while nobody knows in which life of the store they would be written.
    private func copies(of records: [MemoryRecord]) -> [ShortTermEntry] {
        guard !records.isEmpty, let epoch = store.epoch, let tag = tag(epoch: epoch) else { return [] }
        return records.map { record in
            let key = recordKey(RecordKey(id: record.id, clientID: record.clientID))
            let value = CacheEnvelope.seal(record.encoded, clientID: record.clientID, key: key, tag: tag)
            return ShortTermEntry(key: key, value: value, timeToLive: Self.recordLife)
        }
    }

    /// Records that are kept here; for when the primary store does not answer.
    func records(_ keys: [RecordKey], deadline: Deadline) async -> [MemoryRecord] {
        guard !keys.isEmpty, !distrust.withLock({ distrust in keys.contains { distrust.contains($0.clientID) } }),
            let found = try? await store.get(keys.map(recordKey), deadline: deadline.capped(at: budgets.readCache)),
            let tag = tag(epoch: found.epoch)
        else { return [] }
        return zip(keys, found.values).compactMap { key, bytes in
            guard let bytes,
                let entry = CacheEnvelope.open(bytes, clientID: key.clientID, key: recordKey(key)), entry.tag == tag,
                let record = MemoryRecord(encoded: entry.payload), record.id == key.id, record.clientID == key.clientID
            else { return nil }
            return record
        }
    }

    // MARK: Query vectors

    private func vectorKey(_ text: String, _ model: String, _ clientID: Int) -> String {
        "\(prefix(of: clientID))vector:\(sha256(model, text).prefix(16).hex)"
    }

    func vector(_ text: String, model: String, clientID: Int, deadline: Deadline) async -> [Float]? {
        let key = vectorKey(text, model, clientID)
        guard let found = try? await store.get([key], deadline: deadline.capped(at: budgets.readCache)),
            let bytes = found.values[0],
            let payload = CacheEnvelope.open(bytes, clientID: clientID, key: key)?.payload,
            payload.count == Limits.dimensions * 4
        else { return nil }
        return [Float](littleEndianBytes: payload)
    }

    /// Keeps the vector of a question that had no answer to keep.
    func keep(_ vector: QueryVector, of clientID: Int) async {
        guard vector.isNew else { return }
        try? await store.set([entry(vector, clientID)], deadline: .after(budgets.writeCache))
    }

    private func entry(_ vector: QueryVector, _ clientID: Int) -> ShortTermEntry {
        let key = vectorKey(vector.text, vector.model, clientID)
        let value = CacheEnvelope.seal(vector.values.littleEndianBytes, clientID: clientID, key: key)
        return ShortTermEntry(key: key, value: value, timeToLive: Self.recordLife)
    }
}

/// The vector of a question.
struct QueryVector: Sendable {
    let text: String
    let model: String
    let values: [Float]
    /// Whether it was made just now, and is kept nowhere yet.
    let isNew: Bool
}

extension RecallRequest {
    /// A digest of everything that decides the answer; two requests that differ in anything have different ones.
    ///
    /// `ranking`: what ranks beside the request, as ``MemoryCache/ranking`` says.
    func fingerprint(_ ranking: String) -> String {
        var writer = JSONWriter()
        writer.beginArray()
        writer.string(ranking)
        writer.string(query)
        writer.int(limit)
        writer.string(mode.rawValue)
        writer.strings(sources.map(\.rawValue))
        writer.json(filter.type.map(JSON.string) ?? .null)
        writer.strings(filter.scopes.map(\.rawValue))
        writer.json(filter.sessionID.map(JSON.string) ?? .null)
        writer.strings(filter.tags)
        writer.json(filter.since.map { .int($0.microseconds) } ?? .null)
        writer.json(filter.until.map { .int($0.microseconds) } ?? .null)
        writer.object(filter.metadata)
        writer.json(minScore.map(JSON.double) ?? .null)
        writer.endArray()
        return sha256(String(decoding: writer.bytes, as: UTF8.self)).prefix(16).hex
    }
}
