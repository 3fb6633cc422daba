import Dispatch
import Foundation
import Logging
import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Event stream")
struct EventStreamTests {
    @Test(
        "A quiet follower looks once a second, however often a wait ended by its time", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases)
    func quiet(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            let surroundings = TestSurroundings(seed: 1)
            try await world.withCountedMemory(surroundings) { memory, reads async throws in
                let (words, events) = (Shared(0), Shared(0))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try await memory.follow(EventFilter(of: .anyone)) { batch in
                            words.withLock { $0 += 1 }
                            events.withLock { $0 += batch.count }
                        }
                    }
                    try await world.eventually("it waits") { surroundings.sleepers == 1 && words.value >= 1 }
                    let before = reads.value
                    for second in 1...2 {
                        try await world.eventually("it waits") { surroundings.sleepers == 1 }
                        surroundings.advance(by: .seconds(1))
                        try await world.eventually("it has looked") { words.value > second }
                    }
                    // Other calls, so that one who goes round in circles has time to do so.
                    for _ in 0..<50 { _ = try await memory.events(EventFilter(of: .anyone)) }
                    #expect(reads.value - before - 50 <= 2 && words.value <= 4)
                    // After all those waits it is still woken: far less than a second passes here.
                    _ = try await memory.log(EventDraft(type: "a", source: "s", owner: .client(world.client)))
                    try await world.eventually("it is told") {
                        surroundings.advance(by: .microseconds(500))
                        return events.value == 1
                    }
                    group.cancelAll()
                }
            }
        }
    }

    @Test(
        "A transaction that commits late is neither skipped nor told twice, however many came before it",
        .timeLimit(.minutes(5)))
    func late() async throws {
        try await TestWorld.with { world async throws in
            try await world.withMemory { memory async throws in
                let first = try await memory.log(EventDraft(type: "a", source: "s", owner: .shared))
                let heard = Shared<[Int64]>([])
                let database = try PostgresDatabase(world.configuration.postgres)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try await memory.follow(EventFilter(of: .anyone), after: first.id) { events in
                            heard.withLock { $0 += events.map(\.id) }
                        }
                    }
                    // Three ways of being late: the id first of all, an id after other writes, and one that is rolled back.
                    let (isLow, mayEnd) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
                    for way in 0..<3 {
                        group.addTask {
                            _ = try? await database.write(deadline: .after(.seconds(60))) {
                                session throws(MemoryError) in
                                try Self.insertLate(way, session, isLow, mayEnd)
                            }
                        }
                    }
                    await Self.wait(for: isLow, times: 3)
                    for _ in 0..<250 { _ = try await memory.log(EventDraft(type: "a", source: "s", owner: .shared)) }
                    // Whoever looks now sees 250 events above the ids of the open transactions.
                    for _ in 0..<5 { _ = try await memory.horizon.look(age: .zero, deadline: .after(.seconds(10))) }
                    for _ in 0..<3 { mayEnd.signal() }
                    try await world.eventually("all are heard") { heard.value.count >= 252 }
                    for _ in 0..<5 { _ = try await memory.log(EventDraft(type: "a", source: "s", owner: .shared)) }
                    try await world.eventually("all are heard") { heard.value.count >= 257 }
                    group.cancelAll()
                }
                await database.close()
                let stored = try await world.execute("SELECT id FROM events WHERE id > \(first.id) ORDER BY id")
                #expect(
                    heard.value == stored.compactMap { $0[0].flatMap { Int64($0) } }, "in the order of ids, each once")
            }
        }
    }

    /// Takes a low id, waits, and ends.
    private static func insertLate(
        _ way: Int, _ session: any SQLSession, _ isLow: DispatchSemaphore, _ mayEnd: DispatchSemaphore
    ) throws(MemoryError) {
        let insert: SQL = "INSERT INTO events (event_type, event_source) VALUES ('late', 's')"
        // Else the server ends it after two seconds, which is soon on a busy machine, and the body runs once more.
        try session.execute("SET LOCAL idle_in_transaction_session_timeout = 0", [])
        switch way {
        case 0:
            let id = try session.query("SELECT nextval('events_id_seq')", []).first?.int(0) ?? 0
            isLow.signal()
            mayEnd.wait()
            try session.execute(
                "INSERT INTO events (id, event_type, event_source) VALUES ($1, 'late', 's')", [.int(id)])
        case 1:
            try session.execute("CREATE TABLE other (id INTEGER)", [])
            try session.execute(insert, [])
            isLow.signal()
            mayEnd.wait()
        default:
            try session.execute(insert, [])
            isLow.signal()
            mayEnd.wait()
            throw MemoryError(.conflict, "rolled back")
        }
    }

    /// Waits on a thread that may be held.
    private static func wait(for semaphore: DispatchSemaphore, times: Int) async {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            Thread.detachNewThread {
                for _ in 0..<times { semaphore.wait() }
                done.resume()
            }
        }
    }

    @Test(
        "Sixteen writers, whose transactions commit late: none lost, none twice (STREAM_EVENTS=100000 for more)",
        .timeLimit(.minutes(10)))
    func manyWriters() async throws {
        let wanted = ProcessInfo.processInfo.environment["STREAM_EVENTS"].flatMap { Int($0) } ?? 5000
        try await TestWorld.with(configure: { $0.postgres.connections = 8 }) { world async throws in
            var settings = world.configuration.postgres
            (settings.connections, settings.statementTimeout) = (16, .seconds(30))
            let database = try PostgresDatabase(settings)
            try await world.withMemory { memory async throws in
                let first = try await memory.log(EventDraft(type: "a", source: "s", owner: .shared))
                let heard = Shared<[Int64]>([])
                let stored = Shared(0)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try await memory.follow(EventFilter(of: .anyone), after: first.id) { events in
                            heard.withLock { $0 += events.map(\.id) }
                        }
                    }
                    await withTaskGroup(of: Void.self) { writers in
                        for writer in 0..<16 {
                            writers.addTask { await Self.write(writer, database, upTo: wanted, stored) }
                        }
                    }
                    try await world.eventually("all are heard") { heard.value.count >= stored.value }
                    _ = try await memory.log(EventDraft(type: "a", source: "s", owner: .shared))
                    try await world.eventually("the last is heard") { heard.value.count > stored.value }
                    group.cancelAll()
                }
                let ids = try await world.execute("SELECT id FROM events WHERE id > \(first.id) ORDER BY id")
                    .compactMap { $0[0].flatMap { Int64($0) } }
                let (told, there) = (Set(heard.value), Set(ids))
                #expect(there.subtracting(told).isEmpty, "lost")
                #expect(heard.value.count == told.count, "twice")
                #expect(told.isSubset(of: there), "of transactions that were rolled back")
                print("event stream: \(there.count) stored, \(told.count) heard, \(there.subtracting(told).count) lost")
            }
            await database.close()
        }
    }

    /// Writes transactions of 1 to 40 events, most of which stay open for a while after they have taken their ids.
    private static func write(_ writer: Int, _ database: PostgresDatabase, upTo wanted: Int, _ stored: Shared<Int>)
        async
    {
        var generator = SeededGenerator(seed: UInt64(writer))
        while stored.value < wanted {
            let count = Int.random(in: 1...40, using: &generator)
            let pause = ([0, 0.05, 0.2, 0.5, 1] as [Double]).randomElement(using: &generator) ?? 0
            let isRolledBack = Int.random(in: 0..<10, using: &generator) == 0
            let done: Void? = try? await database.write(deadline: .after(.seconds(60)), durable: false) {
                session throws(MemoryError) in
                try session.execute(
                    """
                    INSERT INTO events (event_type, event_source) SELECT 'late', 's' FROM generate_series(1, #int($1))
                    """, [.int(Int64(count))])
                _ = try session.query("SELECT pg_sleep($1)", [.double(pause)])
                if isRolledBack { throw MemoryError(.conflict, "rolled back") }
            }
            if done != nil { stored.withLock { $0 += count } }
        }
    }

    @Test("A stream without a cursor begins with what is committed from now on", .timeLimit(.minutes(5)))
    func fromNow() async throws {
        try await TestWorld.with { world async throws in
            try await world.withMemory { memory async throws in
                let database = try PostgresDatabase(world.configuration.postgres)
                let (isLow, mayEnd) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
                let heard = Shared<[String]>([])
                for _ in 0..<3 { _ = try await memory.log(EventDraft(type: "before", source: "s", owner: .shared)) }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try await database.write(deadline: .after(.seconds(60))) { session throws(MemoryError) in
                            try Self.insertLate(1, session, isLow, mayEnd)
                        }
                    }
                    await Self.wait(for: isLow, times: 1)
                    for _ in 0..<3 { _ = try await memory.log(EventDraft(type: "before", source: "s", owner: .shared)) }
                    let hasBegun = Shared(false)
                    group.addTask {
                        try await memory.follow(EventFilter(of: .anyone)) { events in
                            hasBegun.value = true
                            heard.withLock { $0 += events.map(\.type) }
                        }
                    }
                    try await world.eventually("it follows") { hasBegun.value }
                    _ = try await memory.log(EventDraft(type: "after", source: "s", owner: .shared))
                    mayEnd.signal()
                    try await world.eventually("both are heard") { heard.value.count >= 2 }
                    group.cancelAll()
                }
                await database.close()
                #expect(heard.value == ["late", "after"])
            }
        }
    }

    @Test(
        "A cursor of another history goes on with what comes; one of another gateway goes on where it was",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func cursors(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            try await world.withMemory { memory async throws in
                var ids: [Int64] = []
                for _ in 0..<3 {
                    ids.append(try await memory.log(EventDraft(type: "a", source: "s", owner: .shared)).id)
                }
                func heard(after cursor: Int64, count: Int, _ act: () async throws -> Void) async throws -> [Int64] {
                    let heard = Shared<[Int64]>([])
                    let hasBegun = Shared(false)
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        group.addTask {
                            try await memory.follow(EventFilter(of: .anyone), after: cursor) { events in
                                hasBegun.value = true
                                heard.withLock { $0 += events.map(\.id) }
                            }
                        }
                        try await world.eventually("it follows") { hasBegun.value }
                        try await act()
                        try await world.eventually("they are heard") { heard.value.count >= count }
                        group.cancelAll()
                    }
                    return heard.value
                }
                #expect(try await heard(after: ids[0], count: 2) {} == Array(ids[1...]))
                #expect(try await heard(after: 0, count: 3) {} == ids)
                // Deleted meanwhile: neither the cursor nor what follows it need be there.
                try await world.execute("DELETE FROM events WHERE id = \(ids[1])")
                #expect(try await heard(after: ids[1], count: 1) {} == [ids[2]])
                for beyond in [ids[2] + 1_000_000, .max] {
                    let new = Shared<Int64>(0)
                    let after = try await heard(after: beyond, count: 1) {
                        new.value = try await memory.log(EventDraft(type: "a", source: "s", owner: .shared)).id
                    }
                    #expect(after == [new.value])
                }
            }
        }
    }

    @Test(
        "A transaction holds back what it may bring, also once it is prepared; another history is learnt anew",
        .timeLimit(.minutes(1)))
    func floors() {
        var state = EventHorizon.State()
        func settled(_ newest: Int64, _ given: Int64, _ holders: [(String, String?)] = []) -> Int64 {
            let sight = EventLogRepository.Sight(
                newest: newest, given: given,
                holders: holders.map { EventLogRepository.Holder(transaction: $0.0, process: $0.1) })
            return state.note(sight, at: .now).settled
        }
        #expect(settled(5, 5, [("1/1", "1")]) == 0, "who was there before the first look may have any id")
        #expect(settled(10, 10) == 10)
        #expect(settled(20, 20, [("3/5", "1")]) == 10)
        #expect(settled(30, 30, [("3/5", "1"), ("4/1", "2")]) == 10)
        #expect(settled(40, 40, [("-1/77", nil), ("4/1", "2")]) == 10)
        #expect(settled(50, 50, [("4/1", "2")]) == 20)
        #expect(settled(60, 60) == 60)
        #expect(settled(55, 60) == 60, "the newest were deleted")
        #expect(settled(40, 45, [("5/1", "1")]) == 0, "ids are given again")
        #expect(settled(46, 46) == 46)
    }

    @Test("A filter that fits little is not looked through again and again", .timeLimit(.minutes(5)))
    func rareFilter() async throws {
        try await TestWorld.with { world async throws in
            try await world.withMemory { memory async throws in
                try await world.execute(
                    "INSERT INTO events (event_type, event_source) SELECT 'b', 's' FROM generate_series(1, 50000)")
                var filter = EventFilter(of: .anyone)
                filter.type = "a"
                let last = try await memory.log(EventDraft(type: "a", source: "s", owner: .shared))
                let stream = try await memory.eventStream(filter, after: 0)
                for try await events in stream where !events.isEmpty {
                    #expect(events.map(\.id) == [last.id])
                    break
                }
            }
        }
    }
}

extension TestWorld {
    /// A memory without background work, whose reads of the primary store are counted.
    fileprivate func withCountedMemory(
        _ surroundings: TestSurroundings, _ test: (Memory, Shared<Int>) async throws -> Void
    ) async throws {
        // A first opening makes the tables of an embedded world.
        try await withMemory { _ in }
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let reads = Shared(0)
        var stores = try await OpenStores(configuration, logger: logger, surroundings: surroundings)
        stores.database = CountedDatabase(base: stores.database, reads: reads)
        let memory = Memory(
            configuration, stores: stores, embedder: LexicalEmbedder(), logger: logger, surroundings: surroundings)
        do {
            try await test(memory, reads)
            await memory.close()
        } catch {
            await memory.close()
            throw error
        }
    }
}

private struct CountedDatabase: SQLDatabase {
    let base: any SQLDatabase
    let reads: Shared<Int>
    var name: MemoryError.Store { base.name }
    var parallelWrites: Int { base.parallelWrites }

    func read<Value: Sendable>(
        deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        reads.withLock { $0 += 1 }
        return try await base.read(deadline: deadline, body)
    }

    func write<Value: Sendable>(
        deadline: Deadline, durable: Bool, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        try await base.write(deadline: deadline, durable: durable, body)
    }

    func close() async { await base.close() }
}
