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
        try await ensuringClients(drafts) { () throws(MemoryError) in
            try await self.database.write(deadline: deadline) { session throws(MemoryError) in
                let keys = IdempotencyRepository(session: session)
                if let earlier = try keys.take(key) { return .earlier(earlier) }
                let stored = try self.insert(drafts, session)
                try keys.note(key, eventIDs: stored.map(\.record.id))
                return .stored(stored)
            }
        }
    }

    /// What an insertion with a key did.
    enum Keyed: Sendable {
        case stored([EventRepository.Inserted])
        case earlier(IdempotencyRepository.Earlier)
    }

    private func insertTogether(
        _ drafts: [MemoryDraft], _ deadline: Deadline
    ) async throws(MemoryError) -> [EventRepository.Inserted] {
        try await ensuringClients(drafts) { () throws(MemoryError) in
            try await self.database.write(deadline: deadline) { session throws(MemoryError) in
                try self.insert(drafts, session)
            }
        }
    }

    private func insert(
        _ drafts: [MemoryDraft], _ session: any SQLSession
    ) throws(MemoryError) -> [EventRepository.Inserted] {
        try ensureClients(Set(drafts.map(\.clientID)), session)
        let now = surroundings.now
        return try EventRepository(session: session)
            .insert(drafts.map { EventRepository.New($0, now: now) }, lease: OutboxWorker.inlineLease)
    }

    // MARK: Clients

    /// What a transaction that refers to a client begins with: the client gets a profile, or is refused.
    func ensuringClient(_ clientID: Int?) -> @Sendable (any SQLSession) throws(MemoryError) -> Void {
        { [createsClients] session throws(MemoryError) in
            guard let clientID else { return }
            try Self.ensure([clientID], creating: createsClients, session)
        }
    }

    /// Runs a transaction; once more when a profile that was known has been deleted since.
    private func ensuringClients<Value: Sendable>(
        _ drafts: [MemoryDraft], _ transaction: () async throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        let clients = Set(drafts.map(\.clientID))
        let value: Value
        do {
            value = try await transaction()
        } catch {
            guard error.code == .unprocessable, error.driverCode != nil else { throw error }
            known.withLock { $0.subtract(clients) }
            value = try await transaction()
        }
        known.withLock { known in
            if known.count + clients.count > Self.maxKnown { known = [] }
            known.formUnion(clients)
        }
        return value
    }

    private func ensureClients(_ clients: Set<Int>, _ session: any SQLSession) throws(MemoryError) {
        let unknown = known.withLock { clients.subtracting($0) }.sorted()
        guard !unknown.isEmpty else { return }
        try Self.ensure(unknown, creating: createsClients, session)
    }

    private static func ensure(
        _ clients: [Int], creating: Bool, _ session: any SQLSession
    ) throws(MemoryError) {
        let repository = ClientRepository(session: session)
        if creating { try repository.create(clients) }
        let missing = Set(clients).subtracting(try repository.existing(clients))
        guard let client = missing.min() else { return }
        throw MemoryError(.unprocessable, "Client \(client) has no profile", field: "client_id")
    }
}
