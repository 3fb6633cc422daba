import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Fair cache")
struct FairCacheTests {
    @Test("Whoever has most gives up its oldest; whoever has less than a share loses nothing")
    func shares() {
        var cache = FairCache<String, Int, Int>(capacity: 100)
        for key in 0..<5 { cache.insert(key, for: key, of: "small", cost: 10) }
        for key in 0..<1000 { cache.insert(key, for: key, of: "flood", cost: 10) }
        #expect((0..<5).allSatisfy { cache.value(for: $0, of: "small") == $0 })
        #expect(cache.keys(of: "flood").sorted() == Array(995..<1000) && cache.cost == 100 && cache.evicted == 995)
        // An equal share is kept by each of several.
        for key in 0..<50 { cache.insert(key, for: key, of: "third", cost: 10) }
        #expect(["small", "flood", "third"].allSatisfy { (3...4).contains(cache.keys(of: $0).count) })
        // Alone again, one may have all of it.
        for key in 0..<1000 { cache.removeValue(for: key, of: "flood") }
        for key in 0..<5 { cache.removeValue(for: key, of: "small") }
        for key in 0..<50 { cache.insert(key, for: key, of: "third", cost: 10) }
        #expect(cache.keys(of: "third").count == 10 && Array(cache.groups) == ["third"])
        cache.insert(1, for: 1, of: "third", cost: 101)
        #expect(cache.value(for: 1, of: "third") == nil)
    }

    @Test("However it is used, the cost is that of what is there, and never over the limit")
    func random() {
        var generator = SeededGenerator(seed: 7)
        var cache = FairCache<Int, Int, Int>(capacity: 500)
        var costs: [[Int]: Int] = [:]
        for _ in 0..<20_000 {
            let (group, key) = (Int.random(in: 0..<12, using: &generator), Int.random(in: 0..<20, using: &generator))
            if Bool.random(using: &generator) {
                let cost = Int.random(in: 1...60, using: &generator)
                cache.insert(cost, for: key, of: group, cost: cost)
                costs[[group, key]] = cost
            } else {
                cache.removeValue(for: key, of: group)
            }
            var sum = 0
            for group in cache.groups {
                for key in cache.keys(of: group) { sum += costs[[group, key]] ?? 1_000_000 }
            }
            #expect(sum == cache.cost && sum <= 500)
        }
    }

    @Test("One client cannot push out another's conversation", .timeLimit(.minutes(5)))
    func sessions() async throws {
        try await TestWorld.with(.embedded, configure: { $0.embedded.maxCacheBytes = 2 << 20 }) { world async throws in
            try await world.withMemory { memory async throws in
                let (quiet, loud) = (world.client, world.client + 1)
                try await memory.append([SessionMessage(role: "user", content: "hello")], to: "s", client: quiet)
                try await memory.setState(["a": 1], of: "s", client: quiet)
                let long = String(repeating: "x", count: 60_000)
                for number in 0..<100 {
                    try await memory.append(
                        [SessionMessage(role: "user", content: long)], to: "s-\(number)", client: loud)
                }
                #expect(try await memory.messages(of: "s", client: quiet).map(\.content) == ["hello"])
                #expect(try await memory.state(of: "s", client: quiet) == ["a": 1])
                #expect(try await memory.messages(of: "s-0", client: loud).isEmpty)
                #expect(try await memory.messages(of: "s-99", client: loud).count == 1)
            }
        }
    }
}
