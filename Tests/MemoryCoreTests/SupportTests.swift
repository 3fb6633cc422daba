import Dispatch
import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Coalescer")
struct CoalescerTests {
    @Test("The first call goes alone, and those that come meanwhile go together", .timeLimit(.minutes(5)))
    func naturalBatches() async throws {
        let (gate, opener) = AsyncStream<Void>.makeStream()
        let batches = Shared<[[Int]]>([])
        let coalescer = Coalescer<Int, Int>(store: .postgres, maxBatch: 8, maxRunning: 1) { inputs, _ in
            batches.withLock { $0.append(inputs) }
            if inputs == [0] { for await _ in gate { break } }
            return inputs.map { .success($0 * 10) }
        }
        let results = try await withThrowingTaskGroup(of: (Int, Int).self) { group in
            group.addTask { (0, try await coalescer.submit(0, deadline: .after(.seconds(240)))) }
            while batches.withLock({ $0.isEmpty }) { await Task.yield() }
            for input in 1...12 {
                group.addTask { (input, try await coalescer.submit(input, deadline: .after(.seconds(240)))) }
            }
            while coalescer.waitingCount < 12 { await Task.yield() }
            opener.yield()
            return try await group.reduce(into: [Int: Int]()) { $0[$1.0] = $1.1 }
        }
        #expect(results == Dictionary(uniqueKeysWithValues: (0...12).map { ($0, $0 * 10) }))
        #expect(batches.withLock { $0.map(\.count) } == [1, 8, 4])
    }

    @Test("A full queue refuses at once, and a passed deadline is not worked on", .timeLimit(.minutes(5)))
    func limits() async throws {
        let (gate, opener) = AsyncStream<Void>.makeStream()
        let seen = Shared<[Int]>([])
        let coalescer = Coalescer<Int, Int>(store: .qdrant, maxBatch: 8, maxRunning: 1, maxWaiting: 1) { inputs, _ in
            seen.withLock { $0 += inputs }
            if inputs == [0] { for await _ in gate { break } }
            return inputs.map { .success($0) }
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { _ = try? await coalescer.submit(0, deadline: .after(.seconds(240))) }
            while seen.withLock({ $0.isEmpty }) { await Task.yield() }
            let late = await #expect(throws: MemoryError.self) {
                try await coalescer.submit(1, deadline: .after(.zero))
            }
            #expect(late?.code == .timeout)
            group.addTask { _ = try? await coalescer.submit(2, deadline: .after(.seconds(240))) }
            while coalescer.waitingCount < 1 { await Task.yield() }
            let error = await #expect(throws: MemoryError.self) {
                try await coalescer.submit(3, deadline: .after(.seconds(240)))
            }
            #expect(error?.code == .unavailable)
            opener.yield()
        }
        #expect(seen.withLock { $0 } == [0, 2])
    }

    @Test("A poisoned input fails alone", arguments: [1, 2, 7, 64])
    func isolation(_ count: Int) async {
        let results = await isolatingFailures(Array(0..<count)) { inputs throws(MemoryError) in
            guard !inputs.contains(count / 2) else { throw .invalid("poison") }
            return inputs.map { .success($0) }
        }
        for (index, result) in results.enumerated() {
            #expect((try? result.get()) == (index == count / 2 ? nil : index))
        }
        #expect(results.count == count)
    }
}

@Suite("Single flight")
struct SingleFlightTests {
    @Test("Identical calls share one computation, and its error", .timeLimit(.minutes(5)), arguments: [true, false])
    func shares(_ succeeds: Bool) async {
        let (gate, opener) = AsyncStream<Void>.makeStream()
        let computed = Shared(0)
        let flights = SingleFlight<String, Int>()
        let outcomes = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<50 {
                group.addTask {
                    let value = try? await flights.run("key") { () throws(MemoryError) in
                        computed.withLock { $0 += 1 }
                        for await _ in gate { break }
                        guard succeeds else { throw .invalid("no") }
                        return 42
                    }
                    return value == 42
                }
            }
            while flights.waitingCount("key") < 49 { await Task.yield() }
            opener.yield()
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(computed.value == 1)
        #expect(outcomes.allSatisfy { $0 == succeeds })
    }

    @Test("Who joins a long computation leaves it at its own deadline", .timeLimit(.minutes(5)))
    func ownDeadline() async throws {
        let (gate, opener) = AsyncStream<Void>.makeStream()
        let flights = SingleFlight<String, Int>(store: .qdrant)
        let hasBegun = Shared(false)
        let first = Task {
            try await flights.run("key", deadline: .after(.seconds(60))) { () throws(MemoryError) in
                hasBegun.value = true
                for await _ in gate { break }
                return 42
            }
        }
        while !hasBegun.value { await Task.yield() }
        let error = await #expect(throws: MemoryError.self) {
            try await flights.run("key", deadline: .after(.milliseconds(20))) { () throws(MemoryError) in 7 }
        }
        #expect(error?.code == .timeout && error?.store == .qdrant)
        opener.yield()
        #expect(try await first.value == 42)
    }
}

@Suite("Circuit breaker")
struct CircuitBreakerTests {
    @Test("Time that was lost here opens nothing, and the store's own silence does", arguments: [true, false])
    func ownDelays(_ isOwn: Bool) async {
        let surroundings = TestSurroundings(seed: 1)
        let breaker = CircuitBreaker(.postgres, surroundings: surroundings)
        var error = MemoryError.timeout(.postgres, "late")
        error.isOwnDelay = isOwn
        for _ in 0..<10 {
            _ = try? await breaker.run { () throws(MemoryError) in throw error }
            surroundings.advance(by: .milliseconds(40))
        }
        let isServed = Shared(false)
        try? await breaker.run { () throws(MemoryError) in isServed.value = true }
        #expect(isServed.value == isOwn)
    }
}

@Suite("Pulse")
struct PulseTests {
    private final class Watched: Expiring {
        let count = Shared(0)
        let again: Duration?
        init(again: Duration? = nil) { self.again = again }
        func expire() -> Deadline? {
            count.withLock { $0 += 1 }
            return count.value == 1 ? again.map { Deadline.after($0) } : nil
        }
    }

    @Test("Ten thousand deadlines of all lengths end each once, and one that asks for more time twice")
    func many() async throws {
        let pulse = Pulse()
        let watched = (0..<10_000).map { _ in Watched() }
        let twice = Watched(again: .milliseconds(30))
        for (number, call) in watched.enumerated() {
            pulse.watch(call, until: .after(.milliseconds(number % 3000 - 10)))
        }
        pulse.watch(twice, until: .after(.milliseconds(20)))
        while !watched.allSatisfy({ $0.count.value >= 1 }) || twice.count.value < 2 {
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(watched.allSatisfy { $0.count.value == 1 })
        #expect(twice.count.value == 2)
    }
}

@Suite("Timestamp")
struct TimestampTests {
    @Test(
        "RFC 3339 in many forms",
        arguments: [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2026-11-21T03:31:53.055514Z", "2026-11-21T03:31:53.055514Z"),
            ("2026-05-07T14:30:00+02:00", "2026-05-07T12:30:00Z"), ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("1969-12-31 23:59:59.5z", "1969-12-31T23:59:59.500Z"), ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("2023-05-08T13:56", "2023-05-08T13:56:00Z"),
        ])
    func reads(_ text: String, _ expected: String) {
        #expect(Timestamp(text)?.description == expected)
    }

    @Test(
        "What no calendar has is refused",
        arguments: [
            "", "now", "2023-02-29", "2023-13-01", "2023-00-10", "2023-01-32", "2023-1-1", "2023-01-01T24:00:00Z",
            "2023-01-01T00:60:00Z", "2023-01-01T00:00:00+2:00", "2023-01-01T00:00:00Zx", "99999-01-01", "-001-01-01",
            "2023-01-01T",
            "2023-01-01T00:00:00.Z", "0000-01-01",
        ])
    func refuses(_ text: String) {
        #expect(Timestamp(text) == nil)
    }

    @Test("Every day of four hundred years comes back")
    func days() {
        for day in stride(from: Int64(-200 * 365), to: 200 * 365, by: 1) {
            let moment = Timestamp(microseconds: day * 86_400_000_000)
            #expect(Timestamp(moment.description) == moment)
        }
    }

    @Test("Adding holds at the ends of the range")
    func overflow() {
        #expect(Timestamp(microseconds: .max).advanced(by: .seconds(1)).microseconds == .max)
        #expect(Timestamp(microseconds: 0).advanced(by: .milliseconds(2)).microseconds == 2000)
    }
}

@Suite("Cache envelope")
struct CacheEnvelopeTests {
    @Test("Only what was sealed for this client and key opens")
    func identity() throws {
        let sealed = CacheEnvelope.seal([1, 2, 3], clientID: 7, key: "k", tag: 99)
        let opened = try #require(CacheEnvelope.open(sealed, clientID: 7, key: "k"))
        #expect(opened.payload == [1, 2, 3])
        #expect(opened.tag == 99)
        #expect(CacheEnvelope.open(sealed, clientID: 8, key: "k") == nil)
        #expect(CacheEnvelope.open(sealed, clientID: 7, key: "l") == nil)
    }

    @Test("A change of any byte, and a cut at any length, is a miss")
    func damage() {
        let sealed = CacheEnvelope.seal(Array("a memory".utf8), clientID: 7, key: "k")
        for index in sealed.indices {
            var damaged = sealed
            damaged[index] ^= 1
            #expect(CacheEnvelope.open(damaged, clientID: 7, key: "k") == nil)
            #expect(CacheEnvelope.open(Array(sealed[..<index]), clientID: 7, key: "k") == nil)
        }
    }
}

@Suite("LRU cache")
struct LRUCacheTests {
    @Test("What was used longest ago goes first")
    func evicts() {
        var cache = LRUCache<Int, String>(capacity: 3)
        for key in 1...3 { cache.insert("\(key)", for: key) }
        #expect(cache.value(for: 1) == "1")
        cache.insert("4", for: 4)
        #expect(cache.value(for: 2) == nil)
        #expect([1, 3, 4].map { cache.value(for: $0) } == ["1", "3", "4"])
    }

    @Test("It agrees with a simple model over random operations", arguments: 0..<20)
    func model(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var cache = LRUCache<Int, Int>(capacity: 8)
        var model: [(key: Int, value: Int)] = []
        for step in 0..<500 {
            let key = Int.random(in: 0..<16, using: &generator)
            let index = model.firstIndex { $0.key == key }
            if Bool.random(using: &generator) {
                cache.insert(step, for: key)
                if let index { model.remove(at: index) } else if model.count == 8 { model.removeFirst() }
                model.append((key, step))
            } else {
                #expect(cache.value(for: key) == index.map { model[$0].value })
                if let index { model.append(model.remove(at: index)) }
            }
            #expect(cache.count == model.count)
        }
    }

    @Test(
        "29: names are looked up once for all, within the deadline; where no answer comes, the last one counts",
        .timeLimit(.minutes(5)))
    func names() async throws {
        let answers = Shared([["10.0.0.1", "::1"]])
        let lookUps = Shared(0)
        let silence = DispatchSemaphore(value: 0)
        let resolver = NameResolver { _ in
            lookUps.withLock { $0 += 1 }
            if let answer = answers.withLock({ $0.popLast() }) { return answer }
            silence.wait()
            return ["10.0.0.2"]
        }
        func find(_ host: String, _ time: Duration) throws -> [String] {
            try resolver.addresses(of: host, for: .postgres, deadline: .after(time))
        }
        for address in ["127.0.0.1", "::1", "/run/postgresql", "a,b", ""] {
            #expect(try find(address, .zero) == [address])
        }
        #expect(lookUps.value == 0)
        #expect(try find("db.example", .seconds(60)) == ["10.0.0.1", "::1"])
        #expect(try find("db.example", .milliseconds(1)) == ["10.0.0.1", "::1"], "what was known counts")
        for _ in 0..<5 {
            let error = #expect(throws: MemoryError.self) { try find("other.example", .milliseconds(1)) }
            #expect(error?.code == .timeout)
        }
        #expect(lookUps.value == 3, "everyone waits for one look-up of a name")
        for _ in 0..<2 { silence.signal() }
        #expect(try find("other.example", .seconds(60)) == ["10.0.0.2"])
        answers.value = [[]]
        let error = #expect(throws: MemoryError.self) { try find("nobody.example", .seconds(60)) }
        #expect(error?.code == .unavailable)
    }
}
