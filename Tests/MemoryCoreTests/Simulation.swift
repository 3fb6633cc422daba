import Foundation
import MemoryTestSupport
import Testing

@testable import MemoryCore

/// A life of a memory that a seed decides: it remembers, changes, forgets, recalls, loses points, its cache and its process;
/// hours pass; and in every third call some step fails in some way. After each call the primary store must hold what a plain
/// dictionary says, and no recall may show anything else.
///
/// Source of the idea: FoundationDB's simulation (Zhou et al., SIGMOD 2021), at our size.
final class Simulation {
    private struct Fact: Equatable {
        var content: String
        var expiresAt: Timestamp?
    }

    private let world: TestWorld
    private let seed: UInt64
    private let plan = FaultPlan()
    private let surroundings: TestSurroundings
    private var generator: SeededGenerator
    /// What the primary store must hold.
    private var facts: [Int64: Fact] = [:]
    /// What was forgotten, and must never be recalled.
    private var gone: [String] = []
    private var keyed: [(draft: MemoryDraft, key: String, id: Int64)] = []
    /// Whether points were taken away that nobody has looked for since.
    private var hasLostPoints = false
    private var texts = 0
    /// What was done, for when it ends badly.
    private var story: [String] = []

    init(_ world: TestWorld, seed: UInt64) {
        self.world = world
        self.seed = seed
        generator = SeededGenerator(seed: seed)
        surroundings = TestSurroundings(seed: seed)
    }

    /// Runs so many steps, over several lives of the process, and looks at the whole in the end.
    func run(steps: Int) async throws {
        // A first opening makes the tables of an embedded world; and another client has much to say about the same things.
        try await world.withMemory { memory async throws in
            for number in 0..<10 {
                _ = try await memory.remember("a note about tea \(number)", client: world.client + 1)
            }
            try await world.eventually("nothing is owed") { try await memory.outboxCounts().pending == 0 }
        }
        var left = steps
        while left > 0 {
            let life = min(left, Int.random(in: 10...40, using: &generator))
            left -= life
            try await world.withMemory(failingBy: plan, surroundings: surroundings) { memory async throws in
                for _ in 0..<life { try await step(memory) }
                if left == 0 { try await end(memory) }
            }
            story.append("restart")
        }
    }

    private func expect(_ truth: Bool, _ what: @autoclosure () -> String) {
        guard !truth else { return }
        let story = story.suffix(12).joined(separator: "\n  ")
        Issue.record("seed \(seed): \(what())\n  \(story)")
    }

    // MARK: Steps

    private func step(_ memory: Memory) async throws {
        switch Int.random(in: 0..<100, using: &generator) {
        case ..<24: try await remember(memory)
        case ..<32: try await rememberBatch(memory)
        case ..<36: try await rememberAgain(memory)
        case ..<46: try await change(memory)
        case ..<54: try await forget(memory)
        case ..<78: try await recall(memory)
        case ..<82: try await look(memory)
        case ..<92: await deliver(memory)
        case ..<95: try await wait(memory)
        case ..<97: try await losePoints(memory)
        case ..<98: try await loseCache(memory)
        default: try await settle(memory)
        }
    }

    /// Runs a call, in which every third time a step fails.
    private func call<Value: Sendable>(
        _ name: String, _ body: () async throws(MemoryError) -> Value
    ) async -> (result: Result<Value, MemoryError>, fault: FaultPlan.Kind?) {
        var kind: FaultPlan.Kind?
        if Int.random(in: 0..<3, using: &generator) == 0 {
            let place = Int.random(in: 1...14, using: &generator)
            kind = FaultPlan.Kind.allCases.randomElement(using: &generator)
            if let kind { plan.arm(at: place, kind) }
        }
        let result: Result<Value, MemoryError>
        do throws(MemoryError) { result = .success(try await body()) } catch { result = .failure(error) }
        if !plan.disarm() { kind = nil }
        var line = name
        if let kind { line += ", \(kind)" }
        if case .failure(let error) = result { line += ": \(error.debugDescription)" }
        story.append(line)
        if kind == nil, case .failure(let error) = result, error.code != .notFound, error.code != .conflict {
            expect(false, "it fails without a fault: \(error.debugDescription)")
        }
        return (result, kind)
    }

    private func draft() -> MemoryDraft {
        texts += 1
        let draft = MemoryDraft(clientID: world.client, content: "note q\(seed)x\(texts)z about tea")
        guard Int.random(in: 0..<4, using: &generator) == 0 else { return draft }
        var ending = draft
        ending.expiry = .at(surroundings.now.advanced(by: .seconds(Int.random(in: 60...7200, using: &generator))))
        return ending
    }

    private func fact(_ draft: MemoryDraft) -> Fact {
        guard case .at(let moment)? = draft.expiry else { return Fact(content: draft.content) }
        return Fact(content: draft.content, expiresAt: moment)
    }

    private func isLive(_ fact: Fact) -> Bool { fact.expiresAt.map { $0 > surroundings.now } ?? true }

    private func anyFact() -> (id: Int64, fact: Fact)? {
        facts.sorted { $0.key < $1.key }.randomElement(using: &generator).map { ($0.key, $0.value) }
    }

    // MARK: Writes

    private func remember(_ memory: Memory) async throws {
        let draft = draft()
        let key = Bool.random(using: &generator) ? "key \(texts)" : nil
        let (result, _) = await call("remember \(draft.content)") { () throws(MemoryError) in
            try await memory.remember(draft, idempotencyKey: key)
        }
        switch result {
        case .success(let receipt):
            facts[receipt.memoryID] = fact(draft)
            if let key { keyed.append((draft, key, receipt.memoryID)) }
        case .failure(let error):
            expect(error.outcome != nil, "no outcome")
            try await adopt([draft], mayBeStored: error.outcome != .notStored)
            if let key {
                let receipt = try await memory.remember(draft, idempotencyKey: key)
                expect(facts[receipt.memoryID] == nil || facts[receipt.memoryID] == fact(draft), "another's id")
                facts[receipt.memoryID] = fact(draft)
            }
        }
        try await compare("remember")
    }

    private func rememberBatch(_ memory: Memory) async throws {
        let drafts = (0..<Int.random(in: 2...6, using: &generator)).map { _ in draft() }
        let (result, _) = await call("remember \(drafts.map(\.content))") { () throws(MemoryError) in
            try await memory.remember(drafts.map { .success($0) })
        }
        switch result {
        case .success(let receipts):
            for (draft, receipt) in zip(drafts, receipts) {
                switch receipt {
                case .success(let receipt): facts[receipt.memoryID] = fact(draft)
                case .failure(let error): try await adopt([draft], mayBeStored: error.outcome != .notStored)
                }
            }
        case .failure(let error): try await adopt(drafts, mayBeStored: error.outcome != .notStored)
        }
        try await compare("remember a batch")
    }

    private func rememberAgain(_ memory: Memory) async throws {
        guard let earlier = keyed.randomElement(using: &generator) else { return }
        let (result, _) = await call("again \(earlier.key)") { () throws(MemoryError) in
            try await memory.remember(earlier.draft, idempotencyKey: earlier.key)
        }
        if case .success(let receipt) = result { expect(receipt.memoryID == earlier.id, "another id for the same key") }
        try await compare("remember again")
    }

    private func change(_ memory: Memory) async throws {
        guard let (id, old) = anyFact() else { return }
        texts += 1
        var patch = MemoryPatch()
        let content = "note q\(seed)x\(texts)z about milk"
        patch.content = content
        let (result, _) = await call("change \(id) to \(content)") { [patch] () throws(MemoryError) in
            try await memory.update(id, client: world.client, patch)
        }
        switch result {
        case .success: facts[id]?.content = content
        case .failure(let error) where error.code == .notFound: expect(!isLive(old), "it is not found")
        case .failure(let error):
            let stored = try await stored()[id]
            expect(
                stored == old.content || error.outcome != .notStored && stored == content || !isLive(old),
                "\(stored ?? "")")
            if let stored { facts[id]?.content = stored }
        }
        if facts[id]?.content == content { gone.append(old.content) }
        try await compare("change")
    }

    private func forget(_ memory: Memory) async throws {
        guard let (id, old) = anyFact() else { return }
        let (result, _) = await call("forget \(id)") { () throws(MemoryError) in
            try await memory.delete(id, client: world.client)
        }
        switch result {
        case .success: facts[id] = nil
        case .failure(let error) where error.code == .notFound: expect(!isLive(old), "it is not found")
        case .failure(let error):
            if try await stored()[id] == nil {
                expect(error.outcome != .notStored || !isLive(old), "it was deleted all the same")
                facts[id] = nil
            }
        }
        if facts[id] == nil { gone.append(old.content) }
        try await compare("forget")
    }

    // MARK: Reads

    private func recall(_ memory: Memory) async throws {
        let wanted = anyFact()
        let text = Int.random(in: 0..<4, using: &generator) == 0 ? gone.randomElement(using: &generator) : nil
        let request = RecallRequest(query: text ?? wanted?.fact.content ?? "tea", clientID: world.client, limit: 5)
        let (result, fault) = await call("recall \(request.query)") { () throws(MemoryError) in
            try await memory.recall(request)
        }
        guard case .success(let answer) = result else { return }
        check(answer)
        guard fault == nil, text == nil, let wanted, isLive(wanted.fact) else { return }
        if answer.isDegraded { expect(false, "it is degraded without a fault") }
        if try await isSettled(memory) {
            expect(answer.hits.first?.record.id == wanted.id, "\(wanted.id) is not found; cached: \(answer.isCached)")
        }
    }

    /// Nothing but what is remembered now, whatever became of vectors and caches.
    private func check(_ answer: RecallAnswer) {
        for hit in answer.hits {
            let fact = facts[hit.record.id]
            expect(hit.record.clientID == world.client, "another client's memory: \(hit.record.content)")
            expect(fact?.content == hit.record.content, "stale: \(hit.record.content), is \(fact?.content ?? "gone")")
            if let fact { expect(isLive(fact), "expired: \(hit.record.content)") }
        }
    }

    private func look(_ memory: Memory) async throws {
        guard let (id, fact) = anyFact() else { return }
        let (result, _) = await call("look at \(id)") { () throws(MemoryError) in
            try await memory.memory(id, client: world.client)
        }
        switch result {
        case .success(let record): expect(record.content == fact.content && isLive(fact), "stale: \(record.content)")
        case .failure(let error): expect(error.code != .notFound || !isLive(fact), "it is not found")
        }
    }

    // MARK: What goes on between calls

    private func deliver(_ memory: Memory) async {
        _ = await call("the outbox's turn") { () throws(MemoryError) in _ = await memory.outbox.look() }
    }

    private func wait(_ memory: Memory) async throws {
        let seconds = Int.random(in: 1...7200, using: &generator)
        story.append("\(seconds) seconds pass")
        surroundings.advance(by: .seconds(seconds))
        // A server's clock does not hear of it.
        if world.stores == .servers { try await loseCache(memory) }
    }

    private func loseCache(_ memory: Memory) async throws {
        story.append("the cache is lost")
        _ = try await memory.cache.store.removeAll(prefix: world.configuration.valkey.keyPrefix, deadline: soon)
    }

    private func losePoints(_ memory: Memory) async throws {
        let lost = facts.keys.sorted().filter { _ in Bool.random(using: &generator) }
        story.append("points lost: \(lost)")
        try await memory.vectors.delete(lost, in: .events, deadline: soon)
        // What was recalled before is as it was; only a search would miss them.
        hasLostPoints = true
    }

    private func isSettled(_ memory: Memory) async throws -> Bool {
        let owed = try await memory.outboxCounts()
        return !hasLostPoints && owed == (0, 0)
    }

    /// Nothing fails any more, all leases run out, and the reconciler looks.
    private func settle(_ memory: Memory) async throws {
        story.append("settle")
        try await drain(memory)
        let found = try await memory.reconcile()
        expect(hasLostPoints || found == (0, 0), "it differs: \(found)")
        try await drain(memory)
        // A search that missed them may be kept: the next write ends that.
        if hasLostPoints { try await memory.cache.invalidate([world.client], deadline: soon) }
        hasLostPoints = false
    }

    private func drain(_ memory: Memory) async throws {
        let past = world.stores == .embedded ? "0" : "now() - interval '1 hour'"
        for _ in 0..<40 {
            _ = try await memory.retryDeadLetters()
            try await world.execute("UPDATE memory_outbox SET due_at = \(past)")
            await memory.outbox.look()
            if try await memory.outboxCounts() == (0, 0) { return }
        }
        expect(false, "the outbox is never empty")
    }

    // MARK: Comparisons

    /// Contents by id, as the primary store has them.
    private func stored() async throws -> [Int64: String] {
        let rows = try await world.execute(
            "SELECT id, payload ->> 'content' FROM events WHERE client_id = \(world.client) AND event_type LIKE 'memory:%'"
        )
        var stored: [Int64: String] = [:]
        for row in rows { if let id = row[0].flatMap({ Int64($0) }) { stored[id] = row[1] } }
        return stored
    }

    /// Takes up what a call of unknown outcome may have stored; each draft at most once.
    private func adopt(_ drafts: [MemoryDraft], mayBeStored: Bool) async throws {
        for draft in drafts {
            let found = try await stored().filter { $0.value == draft.content && facts[$0.key] == nil }
            expect(found.count <= (mayBeStored ? 1 : 0), "\(draft.content) is stored \(found.count) times")
            for id in found.keys { facts[id] = fact(draft) }
        }
    }

    private func compare(_ what: String) async throws {
        let stored = try await stored()
        for (id, fact) in facts where stored[id] != fact.content {
            expect(stored[id] == nil && !isLive(fact), "after \(what): \(id) is \(stored[id] ?? "lost")")
            facts[id] = nil
        }
        for id in stored.keys { expect(facts[id] != nil, "after \(what): \(id) should not be there") }
    }

    private func end(_ memory: Memory) async throws {
        // The sweep of what has expired is due as well.
        surroundings.advance(by: .seconds(10))
        hasLostPoints = true
        try await settle(memory)
        try await compare("all")
        let ids = Set(facts.filter { isLive($0.value) }.keys)
        let points = try await Set(memory.vectors.ownIDs(in: .events, after: nil, limit: 10_000, deadline: soon))
        let others = try await Set(
            world.execute("SELECT id FROM events WHERE client_id = \(world.client + 1)").compactMap {
                $0[0].flatMap { Int64($0) }
            })
        expect(points == ids.union(others), "points \(points.symmetricDifference(ids.union(others)))")
        for id in ids.sorted() {
            guard let fact = facts[id] else { continue }
            let answer = try await memory.recall(
                RecallRequest(query: fact.content, clientID: world.client, limit: 3))
            check(answer)
            expect(answer.hits.first?.record.id == id && !answer.isDegraded, "\(id) is not found in the end")
        }
    }

    private var soon: Deadline { .after(.seconds(20)) }
}
