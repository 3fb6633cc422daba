import Synchronization

/// Inserts memories: many at once in one transaction, with profiles for the clients that have none.
final class MemoryWriter: Sendable {
    private let database: any SQLDatabase
    private let createsClients: Bool
    private let surroundings: any Surroundings
    /// Clients that have a profile, as far as this gateway knows.
    private let known = Mutex<Set<Int>>([])

    private static let maxKnown = 100_000

    init(database: any SQLDatabase, createsClients: Bool, surroundings: any Surroundings) {
        self.database = database
        self.createsClients = createsClients
        self.surroundings = surroundings
    }

    /// Inserts drafts that do not depend on each other: one that the store refuses fails alone.
    func insert(
        _ drafts: [MemoryDraft], _ deadline: Deadline
    ) async -> [Result<EventRepository.Inserted, MemoryError>] {
        await isolatingFailures(drafts, isPoison: { Self.isInputsFault.contains($0.code) }) {
            drafts throws(MemoryError) in
            try await self.insertTogether(drafts, deadline).map { .success($0) }
        }
    }

    private static let isInputsFault: Set<MemoryError.Code> = [.invalidRequest, .unprocessable, .conflict]

    /// Inserts drafts all together or not at all, under an idempotency key; what was stored for it before is answered
    /// instead.
    func insert(
        _ drafts: [MemoryDraft], key: IdempotencyRepository.Key, _ deadline: Deadline
    ) async throws(MemoryError) -> Keyed {
        let clients = Set(drafts.map(\.clientID)).sorted()
        return try await database.write(deadline: deadline) { session throws(MemoryError) in
            // Profiles before the key, as an erasure locks them.
            try Self.ensure(clients, creating: self.createsClients, session)
            let keys = IdempotencyRepository(session: session)
            if let earlier = try keys.take(key) { return .earlier(earlier) }
            let changed = try self.replaceOrInsert(drafts, session)
            try keys.note(key, eventIDs: changed.map(\.record.id))
            return .stored(changed)
        }
    }

    private func replaceOrInsert(
        _ drafts: [MemoryDraft], _ session: any SQLSession
    ) throws(MemoryError) -> [Memory.Changed] {
        if drafts.count == 1, let replaced = try EventRepository(session: session).replaceAgentMemory(drafts[0]) {
            return [replaced]
        }
        return zip(try insert(drafts, session), drafts).map {
            Memory.Changed($0, supplied: $1.embedding)
        }
    }

    /// What an insertion with a key did.
    enum Keyed: Sendable {
        case stored([Memory.Changed])
        case earlier(IdempotencyRepository.Earlier)
    }

    private func insertTogether(
        _ drafts: [MemoryDraft], _ deadline: Deadline
    ) async throws(MemoryError) -> [EventRepository.Inserted] {
        let clients = Set(drafts.map(\.clientID))
        let inserted: [EventRepository.Inserted]
        do {
            let unknown = known.withLock { clients.subtracting($0) }.sorted()
            inserted = try await insert(drafts, ensuring: unknown, deadline)
        } catch {
            // A profile that was known has been deleted since.
            guard error.code == .unprocessable, error.driverCode != nil else { throw error }
            known.withLock { $0.subtract(clients) }
            inserted = try await insert(drafts, ensuring: clients.sorted(), deadline)
        }
        known.withLock { known in
            if known.count + clients.count > Self.maxKnown { known = [] }
            known.formUnion(clients)
        }
        return inserted
    }

    private func insert(
        _ drafts: [MemoryDraft], ensuring clients: [Int], _ deadline: Deadline
    ) async throws(MemoryError) -> [EventRepository.Inserted] {
        try await database.write(deadline: deadline) { session throws(MemoryError) in
            try Self.ensure(clients, creating: self.createsClients, session)
            return try self.insert(drafts, session)
        }
    }

    private func insert(
        _ drafts: [MemoryDraft], _ session: any SQLSession
    ) throws(MemoryError) -> [EventRepository.Inserted] {
        let now = surroundings.now
        return try EventRepository(session: session)
            .insert(drafts.map { EventRepository.New($0, now: now) }, lease: OutboxWorker.inlineLease)
    }

    // MARK: Clients

    /// What a transaction that refers to a client begins with: the client gets a profile, or is refused.
    func ensuringClient(_ owner: Owner) -> @Sendable (any SQLSession) throws(MemoryError) -> Void {
        { [createsClients] session throws(MemoryError) in
            guard case .client(let clientID) = owner else { return }
            try Self.ensure([clientID], creating: createsClients, session)
        }
    }

    /// The clients get profiles, or are refused; and keep them until the transaction ends.
    private static func ensure(
        _ clients: [Int], creating: Bool, _ session: any SQLSession
    ) throws(MemoryError) {
        guard !clients.isEmpty else { return }
        let repository = ClientRepository(session: session)
        var missing = Set(clients).subtracting(try repository.hold(clients))
        // A profile that is being erased is there until it is gone; then it can be made again.
        for _ in 0..<3 where creating && !missing.isEmpty {
            try repository.create(missing.sorted())
            missing.subtract(try repository.hold(missing.sorted()))
        }
        guard let client = missing.min() else { return }
        throw MemoryError(.unprocessable, "Client \(client) has no profile", field: "client_id")
    }
}
