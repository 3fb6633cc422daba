extension Memory {
    /// Stores what another system reports. Whoever follows the stream hears of it.
    public func log(_ draft: EventDraft) async throws(MemoryError) -> Event {
        try draft.validate()
        let ensured = writer.ensuringClient(draft.owner)
        let event = try await write { session throws(MemoryError) in
            try ensured(session)
            return try EventLogRepository(session: session).insert(draft)
        }
        await publish([event])
        return event
    }

    /// One event, memories included.
    ///
    /// - Throws: ``MemoryError`` with `not_found`, also when it is not these owners'.
    public func event(_ id: Int64, of owners: Owners) async throws(MemoryError) -> Event {
        try Limits.check(rowID: id)
        return try Self.found(
            try await read { session throws(MemoryError) in
                try EventLogRepository(session: session).event(id, of: owners)
            })
    }

    /// Events, memories included, newest first.
    public func events(
        _ filter: EventFilter, page: PageRequest = PageRequest()
    ) async throws(MemoryError) -> Page<Event> {
        try filter.validate()
        try page.validate()
        let rows = try await read { session throws(MemoryError) in
            try EventLogRepository(session: session).list(filter, page: page)
        }
        return page.page(rows, id: \.id)
    }

    /// How many events there are, by type and by source. Of the filter the owners and the beginning count.
    public func eventStatistics(_ filter: EventFilter) async throws(MemoryError) -> EventStatistics {
        try filter.validate()
        return try await read { session throws(MemoryError) in
            try EventLogRepository(session: session).statistics(filter)
        }
    }

    // MARK: The stream

    /// Follows the events.
    ///
    /// A transaction that has taken an event's id and does not end delays the events after it.
    ///
    /// `after`: the id of the last event that is known already; nil begins with the next one.
    /// - Throws: ``MemoryError`` with `unavailable` when too many follow already, or the primary store fails.
    public func eventStream(
        _ filter: EventFilter, after: Int64? = nil
    ) async throws(MemoryError) -> EventStream {
        try filter.validate()
        return try await EventStream(self, filter, after: after)
    }

    /// Hands out events as an ``EventStream`` does, until the task is cancelled or `body` throws.
    ///
    /// `after`: the id of the last event that is known already; nil begins with the next one.
    /// - Throws: ``MemoryError`` with `unavailable` when too many follow already or the primary store fails, or what `body`
    ///   throws.
    @concurrent
    public func follow(
        _ filter: EventFilter, after: Int64? = nil,
        _ body: @Sendable @concurrent (_ events: [Event]) async throws -> Void
    ) async throws {
        for try await events in try await eventStream(filter, after: after) { try await body(events) }
    }

    /// How many follow the events.
    package var followers: Int { signals.followers }

    /// For how long events have waited for a transaction that does not end, as of the last look.
    package var streamDelay: Duration { horizon.heldUp }

    /// Tells whoever follows that events were stored.
    func publish(_ events: [Event]) async {
        signals.notify()
        await cache.publish(events.map(Self.publication))
    }
}
