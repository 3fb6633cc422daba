import Synchronization

extension Memory {
    /// Stores what another system reports. Whoever follows the stream hears of it.
    public func log(_ draft: EventDraft) async throws(MemoryError) -> Event {
        try draft.validate()
        let ensured = writer.ensuringClient(draft.clientID)
        let event = try await write { session throws(MemoryError) in
            try ensured(session)
            return try EventLogRepository(session: session).insert(draft)
        }
        await publish([event])
        return event
    }

    /// One event, memories included.
    ///
    /// - Throws: ``MemoryError`` with `not_found`, also when it is not this client's.
    public func event(_ id: Int64, client: Int? = nil) async throws(MemoryError) -> Event {
        try Limits.check(rowID: id)
        return try Self.found(
            try await read { session throws(MemoryError) in
                try EventLogRepository(session: session).event(id, clientID: client)
            })
    }

    /// Events, memories included, newest first.
    public func events(
        _ filter: EventFilter = EventFilter(), page: PageRequest = PageRequest()
    ) async throws(MemoryError) -> Page<Event> {
        try filter.validate()
        try page.validate()
        let rows = try await read { session throws(MemoryError) in
            try EventLogRepository(session: session).list(filter, page: page)
        }
        return page.page(rows, id: \.id)
    }

    /// How many events there are, by type and by source. Of the filter the client and the beginning count.
    public func eventStatistics(_ filter: EventFilter = EventFilter()) async throws(MemoryError) -> EventStatistics {
        try filter.validate()
        return try await read { session throws(MemoryError) in
            try EventLogRepository(session: session).statistics(filter)
        }
    }

    // MARK: The stream

    /// How long the stream waits for a sign of life of another gateway before it looks by itself.
    private static let streamPause: Duration = .seconds(1)
    /// Rows get their ids before they are committed: for this long a lower id may still appear.
    private static let settlingTime: Duration = .seconds(5)
    private static let streamBatch = 200

    /// Hands out events as they are stored, oldest first, until the task is cancelled or `body` throws. About once a second
    /// without an event, `body` gets an empty list.
    ///
    /// `after`: the id of the last event that is known already; nil begins with the next one.
    /// - Throws: ``MemoryError`` with `unavailable` when too many follow already, or what `body` throws.
    @concurrent
    public func follow(
        _ filter: EventFilter = EventFilter(), after: Int64? = nil,
        _ body: @concurrent (_ events: [Event]) async throws -> Void
    ) async throws {
        try filter.validate()
        let (id, signals) = try signals.subscribe(store: database.name)
        defer { self.signals.unsubscribe(id) }
        var position: Int64
        if let after {
            position = after
        } else {
            position = try await read { session throws(MemoryError) in
                try EventLogRepository(session: session).newest()
            }
        }
        var recent: Set<Int64> = []
        try await body([])
        while !Task.isCancelled {
            let start = position
            let rows = try await read { session throws(MemoryError) in
                try EventLogRepository(session: session).after(start, filter, limit: Self.streamBatch)
            }
            let fresh = rows.filter { !recent.contains($0.id) }
            if !fresh.isEmpty { try await body(fresh) }
            recent.formUnion(fresh.map(\.id))
            let settled = surroundings.now.advanced(by: .zero - Self.settlingTime)
            // A full batch must move on, or it would be read again for ever.
            let isFull = rows.count == Self.streamBatch
            position = rows.last { isFull || $0.createdAt < settled }?.id ?? position
            recent = recent.filter { $0 > position }
            guard !isFull else { continue }
            if try await !signals.next(within: Self.streamPause), fresh.isEmpty { try await body([]) }
        }
    }

    /// Tells whoever follows that events were stored.
    func publish(_ events: [Event]) async {
        signals.notify()
        await cache.publish(events.map(Self.publication))
    }
}

/// Wakes whoever waits for events. Any number of notifications while nobody waits count as one.
final class EventSignals: Sendable {
    private static let maxSubscribers = 256

    private let subscribers = Mutex<(next: Int, waiting: [Int: Signal])>((0, [:]))
    private let surroundings: any Surroundings

    init(_ surroundings: any Surroundings) { self.surroundings = surroundings }

    /// A place among those who are told.
    ///
    /// - Throws: ``MemoryError`` with `unavailable` when there are too many.
    func subscribe(store: MemoryError.Store) throws(MemoryError) -> (id: Int, signal: Signal) {
        let subscription = subscribers.withLock { subscribers -> (Int, Signal)? in
            guard subscribers.waiting.count < Self.maxSubscribers else { return nil }
            subscribers.next += 1
            let signal = Signal(surroundings)
            subscribers.waiting[subscribers.next] = signal
            return (subscribers.next, signal)
        }
        guard let subscription else { throw .unavailable(store, "too many follow the events") }
        return subscription
    }

    func unsubscribe(_ id: Int) { subscribers.withLock { _ = $0.waiting.removeValue(forKey: id) } }

    func notify() {
        for signal in subscribers.withLock({ Array($0.waiting.values) }) { signal.notify() }
    }

    /// One waiter's bell.
    final class Signal: Sendable {
        private let stream: AsyncStream<Void>
        private let continuation: AsyncStream<Void>.Continuation
        private let surroundings: any Surroundings

        init(_ surroundings: any Surroundings) {
            self.surroundings = surroundings
            (stream, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        }

        func notify() { continuation.yield() }

        /// Waits for a notification.
        ///
        /// - Returns: whether one came within the time.
        func next(within duration: Duration) async throws -> Bool {
            try await withThrowingTaskGroup(of: Bool.self) { group in
                group.addTask { [stream] in
                    for await _ in stream { return true }
                    return false
                }
                group.addTask { [surroundings] in
                    try await surroundings.sleep(for: duration)
                    return false
                }
                let isNotified = try await group.next() ?? false
                group.cancelAll()
                return isNotified
            }
        }
    }
}
