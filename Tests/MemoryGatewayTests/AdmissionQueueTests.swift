import Testing

@testable import MemoryGateway

/// Who works, waits and is refused, without sockets and without a clock: a millisecond passes when the test says so.
@Suite("The admission queue")
struct AdmissionQueueTests {
    /// Places that work at a given pace, and callers that come as they are told to.
    private struct World {
        var queue: AdmissionQueue<Int>
        private(set) var now = ContinuousClock.now
        private let start: ContinuousClock.Instant
        private var nextID = 0
        private var owners: [Int: String] = [:]
        private var leaving: [ContinuousClock.Instant] = []
        private var since: [Int: ContinuousClock.Instant] = [:]
        var answered: [String: Int] = [:]
        var refused: [String: Int] = [:]
        var longestWait = Duration.zero
        let work: Duration

        init(_ limits: AdmissionLimits, work: Duration) {
            queue = AdmissionQueue(limits: limits)
            start = now
            self.work = work
        }

        mutating func arrive(_ key: String) {
            nextID += 1
            let id = nextID
            switch queue.arrive(key, now: now, waiter: id) {
            case .enters:
                answered[key, default: 0] += 1
                leaving.append(now + work)
            case .waits(let pushedOut):
                owners[id] = key
                since[id] = now
                if let pushedOut { refuse([pushedOut]) }
            case .refused: refused[key, default: 0] += 1
            }
        }

        private mutating func take(_ wakeups: AdmissionQueue<Int>.Wakeups) {
            for (id, waited) in wakeups.admitted {
                answered[owners[id] ?? "", default: 0] += 1
                longestWait = max(longestWait, waited)
                leaving.append(now + work)
            }
            refuse(wakeups.refused)
        }

        private mutating func refuse(_ ids: [Int]) {
            for id in ids {
                refused[owners[id] ?? "", default: 0] += 1
                longestWait = max(longestWait, now - (since[id] ?? now))
            }
        }

        /// One millisecond: those who are done leave, and those who waited too long are looked for.
        mutating func pass() {
            now += .milliseconds(1)
            let done = leaving.count { $0 <= now }
            leaving.removeAll { $0 <= now }
            for _ in 0..<done { take(queue.leave(now: now)) }
            refuse(queue.expire(now: now))
        }
    }

    private var limits: AdmissionLimits {
        var limits = AdmissionLimits()
        limits.places = 10
        limits.target = .milliseconds(500)
        limits.interval = .milliseconds(250)
        limits.longest = .seconds(1)
        limits.maxWaiting = 1000
        return limits
    }

    @Test("A burst that can be done in time is done, and nobody is refused")
    func burst() {
        // 10 places of 10 ms: one a millisecond.
        var world = World(limits, work: .milliseconds(10))
        for _ in 0..<400 { world.arrive("a") }
        for _ in 0..<500 { world.pass() }
        #expect(world.answered["a"] == 400)
        #expect(world.refused.isEmpty)
        #expect(!world.queue.isStanding && world.queue.working == 0 && world.queue.waiting == 0)
    }

    @Test("Twice as much as can be done: what is done is all that can be, and nobody waits longer than is allowed")
    func overload() {
        var world = World(limits, work: .milliseconds(10))
        for _ in 0..<10_000 {
            for _ in 0..<2 { world.arrive("a") }
            world.pass()
        }
        // One a millisecond is all there is.
        #expect(world.answered["a"] ?? 0 >= 9900)
        #expect(world.refused["a"] ?? 0 >= 8000)
        #expect(world.longestWait <= .milliseconds(1002))
        #expect(world.queue.isStanding)
        // While it stands, one waits some half a second, not the second that is the end of all waiting.
        #expect(world.queue.waiting <= 600)
        for _ in 0..<2000 { world.pass() }
        let before = world.refused["a"]
        world.arrive("a")
        #expect(world.refused["a"] == before && !world.queue.isStanding, "calm at once")
    }

    @Test("A key's flood does not starve another's trickle")
    func fair() {
        var world = World(limits, work: .milliseconds(10))
        var sent = 0
        for step in 0..<10_000 {
            for _ in 0..<20 { world.arrive("flood") }
            if step % 20 == 0 {
                world.arrive("trickle")
                sent += 1
            }
            world.pass()
        }
        for _ in 0..<1000 { world.pass() }
        #expect(world.refused["trickle"] == nil)
        #expect(world.answered["trickle"] == sent)
        #expect(world.answered["flood"] ?? 0 >= 9000)
    }

    @Test("Even where the flood has filled the queue before anyone knew, another key gets in")
    func pushedOut() {
        var limits = limits
        limits.maxWaiting = 20
        var world = World(limits, work: .milliseconds(10))
        for _ in 0..<40 { world.arrive("flood") }
        #expect(world.refused["flood"] == 10)
        world.arrive("trickle")
        #expect(world.refused["flood"] == 11 && world.refused["trickle"] == nil)
        for _ in 0..<100 { world.pass() }
        #expect(world.answered["trickle"] == 1)
    }

    @Test("When nobody leaves, those who wait are refused in time, and newcomers at the door")
    func stalled() {
        var world = World(limits, work: .seconds(3600))
        for _ in 0..<50 { world.arrive("a") }
        for _ in 0..<1002 { world.pass() }
        #expect(world.refused["a"] == 40 && world.queue.waiting == 0)
        #expect(world.longestWait <= .milliseconds(1002))
        world.arrive("a")  // One of a key may always try its luck,
        world.arrive("a")  // but no more than that.
        #expect(world.refused["a"] == 41 && world.queue.waiting == 1)
        #expect(world.queue.refuses("a", now: world.now) && !world.queue.refuses("b", now: world.now))
    }

    @Test("Keys take turns")
    func turns() {
        var limits = limits
        limits.places = 1
        var world = World(limits, work: .milliseconds(1))
        for key in ["x", "a", "a", "a", "b", "b", "c"] { world.arrive(key) }
        var order: [String] = []
        var before = world.answered
        for _ in 0..<6 {
            world.pass()
            order += world.answered.filter { $0.value != before[$0.key] ?? 0 }.map(\.key)
            before = world.answered
        }
        #expect(order == ["a", "b", "c", "a", "b", "a"])
    }
}
