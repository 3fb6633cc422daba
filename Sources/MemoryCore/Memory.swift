import Logging
import Metrics
public import ServiceLifecycle
import Synchronization

/// The memory of agents: one API over a primary store, a vector store and a short-term store.
///
/// ```swift
/// let memory = try await Memory.open(.environment())
/// try await memory.remember("User prefers morning deep work", client: 1)
/// let hits = try await memory.recall("when does she focus best?", client: 1, limit: 5)
/// ```
///
/// Whatever the HTTP gateway can do, is one call here. What fails is a ``MemoryError``; calls that take a closure throw what
/// that throws as well.
public final class Memory: Sendable {
    let configuration: MemoryConfiguration
    let database: any SQLDatabase
    let vectors: any VectorStore
    let cache: MemoryCache
    let embeddings: EmbeddingService
    let delivery: PointDelivery
    let outbox: OutboxWorker
    let erasures: Erasures
    let logger: Logger
    let surroundings: any Surroundings
    let fusion: Fusion

    let writer: MemoryWriter
    let inserts: Coalescer<MemoryDraft, EventRepository.Inserted>
    /// Records by id; each call has its own list.
    let reads: Coalescer<[RecordKey], [MemoryRecord]>
    /// Which kinds of records a client has, so that collections without any of them are not searched.
    let kinds: Coalescer<Int, Set<RecallRequest.Source>>
    let searches: [RecallRequest.Source: Coalescer<VectorQuery, VectorAnswer>]
    let recalls = SingleFlight<MemoryCache.Flight, (EncodedHits, isDegraded: Bool)>()
    /// Candidates of vectors that stood for no record of their client.
    let ghosts = Counter(label: "memory_gateway_recall_ghosts_total")
    let healthChecks = HealthChecks()
    let signals: EventSignals
    let horizon: EventHorizon
    /// What was found at the start, for ``warnings``.
    let warned = Mutex<[String]>([])
    /// The share of ids that is used, where it is largest.
    let idsUsed = Mutex<Double?>(nil)
    let keys: KeyRing
    let reconciler: Reconciler
    /// Listens to the channels that are followed; nil when there are none.
    let subscriber: ValkeySubscriber?
    /// Counts calls while short-term memory is away.
    let localRates: EmbeddedCache
    let startedAt: ContinuousClock.Instant

    /// The work that goes on between calls; it ends with ``close()``.
    private let background = Mutex<Task<Void, Never>?>(nil)

    init(
        _ configuration: MemoryConfiguration, stores: OpenStores, embedder: any Embedder,
        subscriber: ValkeySubscriber? = nil, logger: Logger, surroundings: any Surroundings = SystemSurroundings()
    ) {
        let (database, vectors) = (stores.database, stores.vectors)
        self.configuration = configuration
        self.database = database
        self.vectors = vectors
        self.logger = logger
        self.surroundings = surroundings
        startedAt = surroundings.instant
        localRates = EmbeddedCache(maxBytes: 8 << 20, surroundings: surroundings)
        signals = EventSignals(surroundings)
        horizon = EventHorizon(
            database: database, signals: signals, logger: logger, surroundings: surroundings)
        reconciler = Reconciler(database: database, vectors: vectors, logger: logger, surroundings: surroundings)
        self.subscriber = subscriber
        keys = KeyRing(
            database: database, keys: configuration.apiKeys, logger: logger, surroundings: surroundings)
        cache = MemoryCache(
            stores.shortTerm, prefix: configuration.valkey.keyPrefix,
            ranking: "\(embedder.model) \(configuration.denseWeight)", lineage: { database.lineage },
            budgets: configuration.budgets, surroundings: surroundings)
        embeddings = EmbeddingService(embedder, cache: cache)
        delivery = PointDelivery(vectors: vectors, embeddings: embeddings)
        erasures = Erasures(
            database: database, cache: cache, lookTime: configuration.budgets.readRecords, logger: logger,
            surroundings: surroundings)
        outbox = OutboxWorker(
            database: database, delivery: delivery, cache: cache, erasures: erasures, logger: logger,
            surroundings: surroundings)
        var fusion = Fusion()
        fusion.denseWeight = configuration.denseWeight
        self.fusion = fusion
        let writer = MemoryWriter(
            database: database, createsClients: configuration.createsClients, surroundings: surroundings)
        self.writer = writer
        inserts = Coalescer(
            store: database.name, maxBatch: 64, maxRunning: database.parallelWrites, changes: true,
            abandoned: { [outbox] _, inserted in
                // Nobody indexes it any more: its outbox row need not wait for the lease to end.
                outbox.failed(
                    inserted.lease, .timeout(database.name, "stored too late to be answered"), isStored: false)
            }
        ) { drafts, deadline in
            await writer.insert(drafts, deadline)
        }
        reads = Coalescer(store: database.name, maxBatch: 64, maxRunning: 2) { lists, deadline in
            await Self.read(lists, database, deadline)
        }
        kinds = Coalescer(store: database.name, maxBatch: 256, maxRunning: 2) { clients, deadline in
            await Self.kinds(clients, database, deadline)
        }
        searches = Dictionary(
            uniqueKeysWithValues: RecallRequest.Source.allCases.map { source in
                let batches = Coalescer<VectorQuery, VectorAnswer>(store: vectors.name, maxBatch: 16, maxRunning: 2) {
                    queries, deadline in
                    await Self.search(queries, in: source.collection, vectors, deadline)
                }
                return (source, batches)
            })
    }

    /// The name of the model that makes the vectors.
    public var embeddingModel: String { embeddings.model }

    // MARK: Small calls

    /// Reads from the primary store, within the time of a read.
    func read<Value: Sendable>(
        _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        try await database.read(deadline: .after(configuration.budgets.recall), body)
    }

    /// Writes to the primary store, within the time of a write.
    func write<Value: Sendable>(
        _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        try await database.write(deadline: .after(configuration.budgets.remember), body)
    }

    /// - Throws: ``MemoryError`` with `not_found` when there is nothing.
    static func found<Value>(_ value: Value?) throws(MemoryError) -> Value {
        guard let value else { throw missing }
        return value
    }

    // MARK: Batch calls

    private static func read(
        _ lists: [[RecordKey]], _ database: any SQLDatabase, _ deadline: Deadline
    ) async -> [Result<[MemoryRecord], MemoryError>] {
        do throws(MemoryError) {
            let records = try await database.read(deadline: deadline) { session throws(MemoryError) in
                try EventRepository(session: session).memories(Array(Set(lists.joined())))
            }
            let byKey = Dictionary(
                records.map { (RecordKey(id: $0.id, clientID: $0.clientID), $0) },
                uniquingKeysWith: { first, _ in first })
            return lists.map { keys in .success(keys.compactMap { byKey[$0] }) }
        } catch {
            return lists.map { _ in .failure(error) }
        }
    }

    private static func kinds(
        _ clients: [Int], _ database: any SQLDatabase, _ deadline: Deadline
    ) async -> [Result<Set<RecallRequest.Source>, MemoryError>] {
        do throws(MemoryError) {
            let kinds = try await database.read(deadline: deadline) { session throws(MemoryError) in
                try EventRepository(session: session).kinds(clients)
            }
            return clients.map { .success(kinds[$0] ?? [.events]) }
        } catch {
            return clients.map { _ in .failure(error) }
        }
    }

    private static func search(
        _ queries: [VectorQuery], in collection: VectorCollection, _ vectors: any VectorStore, _ deadline: Deadline
    ) async -> [Result<VectorAnswer, MemoryError>] {
        do throws(MemoryError) {
            return try await vectors.search(queries, in: collection, deadline: deadline).map { .success($0) }
        } catch {
            return queries.map { _ in .failure(error) }
        }
    }

    // MARK: Life

    /// Starts the work that goes on between calls: preparing stores that were away at the start, and the outbox.
    ///
    /// An unstructured task: a program that links it opens a memory and calls it; that deliveries go on
    /// must not depend on the program running a service. The task is held here, and `close` waits for its end.
    ///
    /// `prepared` hears how the first try to prepare the stores ended.
    func startBackground(prepared: AsyncStream<MemoryError?>.Continuation) {
        let task = Lane.$current.withValue(.background) {
            Task { [self] in
                await prepareUntilDone(prepared)
                await checkDurability()
                await checkModel()
                async let comparisons: Void = reconcile(configuration.reconciles)
                async let channels: Void = followChannels()
                async let ids: Void = watchIDs()
                await outbox.run()
                _ = await (comparisons, channels, ids)
            }
        }
        background.withLock { $0 = task }
    }

    private func reconcile(_ isWanted: Bool) async {
        if isWanted { await reconciler.run() }
    }

    /// Ends the work between calls and gives every connection back. What was acknowledged is stored; what is still owed to
    /// other stores waits in the outbox for the next start.
    public func close() async {
        let task = background.withLock { background in
            defer { background = nil }
            return background
        }
        task?.cancel()
        subscriber?.close()
        await task?.value
        await embeddings.close()
        await vectors.close()
        await cache.store.close()
        await database.close()
    }
}

extension Memory: Service {
    /// Waits for a graceful shutdown, then closes: for a `ServiceGroup`.
    public func run() async throws {
        try? await gracefulShutdown()
        await close()
    }
}
