import MemoryTestSupport
import Synchronization
import Testing

@testable import MemoryCore

/// Calls of several gateways to one record that overlap in every way a seed can think of. Before each transaction and each
/// write of a point a call waits for its turn; only one goes on at a time, so a seed decides everything. Writes are lost,
/// refused or come late, leases end, gateways die. When all is over and nothing is owed, the point must show the record.
final class Overlap {
    private let gateways: Gateways
    private let turns: Turns
    private let seed: UInt64
    private var generator: SeededGenerator
    private var members: [Memory]
    private var texts = 0
    private var calls = 0
    private var id: Int64?
    private var draft: MemoryDraft
    private var story: [String] = []

    private static let maxCalls = 7

    /// Runs so many lives of a record.
    static func run(_ world: TestWorld, seed: UInt64, lives: Int) async throws {
        let turns = Turns()
        try await Gateways.with(
            world, writing: { await turns.wait(forWrite: true) },
            before: { () async throws(MemoryError) in
                if await turns.wait(forWrite: false) == .refused { throw MemoryError.unavailable(.sqlite, "dead") }
            },
            { gateways async throws in
                for life in 0..<lives {
                    let overlap = Overlap(gateways, turns, seed: seed, life: life)
                    try await overlap.run()
                }
            })
    }

    private init(_ gateways: Gateways, _ turns: Turns, seed: UInt64, life: Int) {
        (self.gateways, self.turns, self.seed) = (gateways, turns, seed)
        generator = SeededGenerator(seed: seed &* 1000 &+ UInt64(life))
        members = (0..<4).map { _ in gateways.another() }
        draft = MemoryDraft(clientID: gateways.world.client, content: "first s\(seed)l\(life)")
    }

    private func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<80 {
                try await step(&group)
                try await turns.quiet()
            }
            while let waiting = turns.waiting.first {
                turns.release(waiting.call, .applied)
                try await turns.quiet()
            }
            try await group.waitForAll()
        }
        try await end()
    }

    private func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &generator) < percent }

    // MARK: Steps

    private func step(_ group: inout ThrowingTaskGroup<Void, any Error>) async throws {
        let waiting = turns.waiting
        switch Int.random(in: 0..<100, using: &generator) {
        case ..<30: try await begin(&group)
        case ..<82:
            guard let next = waiting.randomElement(using: &generator) else { return }
            turns.release(next.call, next.isWrite ? fate() : .applied)
        case ..<90: try await endLate()
        case ..<95:
            story.append("leases end")
            try await gateways.endLeases()
        default:
            guard let victim = waiting.randomElement(using: &generator) else { return }
            kill(victim)
        }
    }

    private func fate() -> HeldVectors.Fate {
        let fate: HeldVectors.Fate =
            chance(70) ? .applied : [.late, .late, .replyLost, .refused].randomElement(using: &generator) ?? .applied
        story.append("its write: \(fate)")
        return fate
    }

    private func endLate() async throws {
        let count = gateways.vectors.lateCount
        guard count > 0 else { return }
        let (place, applying) = (Int.random(in: 0..<count, using: &generator), chance(90))
        story.append("a late write \(applying ? "lands" : "is lost")")
        try await gateways.vectors.end(place, applying: applying)
    }

    private func kill(_ victim: Turns.Waiting) {
        story.append("gateway \(victim.call % 4) dies")
        turns.kill(victim.call)
        members[victim.call % 4] = gateways.another()
        turns.release(victim.call, victim.isWrite && chance(50) ? .late : .refused)
    }

    private func begin(_ group: inout ThrowingTaskGroup<Void, any Error>) async throws {
        let busy = Set(turns.running.map { $0 % 4 })
        guard calls < Self.maxCalls,
            let member = (0..<4).filter({ !busy.contains($0) }).randomElement(using: &generator)
        else { return }
        if id == nil, calls > 0 { try await lookForRecord() }
        let (memory, client) = (members[member], gateways.world.client)
        let name: String
        let body: @Sendable () async throws -> Void
        switch (id, Int.random(in: 0..<100, using: &generator)) {
        case (nil, _) where calls > 0: return
        case (nil, _):
            name = "remember"
            body = { [draft] in _ = try await memory.remember(draft, idempotencyKey: draft.content) }
        case (.some(let id), ..<35):
            texts += 1
            var patch = MemoryPatch()
            patch.content = "\(draft.content) change\(texts) word\(texts)"
            name = "change \(texts)"
            body = { [patch] in _ = try await memory.update(id, client: client, patch) }
        case (.some(let id), ..<42):
            name = "delete"
            body = { try await memory.delete(id, client: client) }
        case (_, ..<60):
            name = "retry"
            body = { [draft] in _ = try await memory.remember(draft, idempotencyKey: draft.content) }
        default:
            name = "look"
            body = { await memory.outbox.look() }
        }
        calls += 1
        let call = calls * 4 + member
        story.append("gateway \(member): \(name)")
        turns.begin(call)
        group.addTask { [turns] in
            await Turns.$call.withValue(call) { try? await body() }
            turns.end(call)
        }
    }

    private func lookForRecord() async throws {
        let rows = try await gateways.world.execute(
            "SELECT id FROM events WHERE payload ->> 'content' = '\(draft.content)'")
        id = rows.first?[0].flatMap { Int64($0) }
    }

    // MARK: The end

    private func end() async throws {
        try await lookForRecordAtLast()
        guard let id else { return }
        while gateways.vectors.lateCount > 0 {
            if chance(30) { for member in members { await member.outbox.look() } }
            try await endLate()
        }
        for member in members { await member.outbox.look() }
        try await gateways.drain()
        let rows = try await gateways.world.execute("SELECT payload ->> 'content' FROM events WHERE id = \(id)")
        if let content = rows.first?[0] {
            let shown = try await gateways.point(id, shows: content)
            expect(shown == true, "the record says '\(content)', its point \(shown == nil ? "is lost" : "is old")")
        } else {
            // A write that came after the removal stands for nothing: the reconciler's to take away.
            _ = try await gateways.another().reconcile()
            expect(try await gateways.point(id, shows: "") == nil, "a point of nothing")
        }
    }

    private func lookForRecordAtLast() async throws { if id == nil { try await lookForRecord() } }

    private func expect(_ truth: Bool, _ what: String) {
        guard !truth else { return }
        Issue.record("seed \(seed): \(what)\n  \(story.joined(separator: "\n  "))")
    }
}

/// Lets calls go on one at a time, when the test says so.
final class Turns: Sendable {
    /// Which call the task belongs to; whoever has none is not kept waiting.
    @TaskLocal static var call: Int?

    struct Waiting {
        let call: Int
        let isWrite: Bool
        fileprivate let turn: CheckedContinuation<HeldVectors.Fate, Never>
    }

    private struct State {
        var running: Set<Int> = []
        var dead: Set<Int> = []
        var waiting: [Waiting] = []
        var quiet: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    var running: Set<Int> { state.withLock { $0.running } }
    var waiting: [Waiting] { state.withLock { $0.waiting.sorted { $0.call < $1.call } } }

    func begin(_ call: Int) { state.withLock { _ = $0.running.insert(call) } }
    func kill(_ call: Int) { state.withLock { _ = $0.dead.insert(call) } }

    func end(_ call: Int) { change { $0.running.remove(call) } }

    /// Waits for this call's turn; a dead gateway's are all refused.
    func wait(forWrite isWrite: Bool) async -> HeldVectors.Fate {
        guard let call = Self.call else { return .applied }
        if state.withLock({ $0.dead.contains(call) }) { return .refused }
        return await withCheckedContinuation { turn in
            change { $0.waiting.append(Waiting(call: call, isWrite: isWrite, turn: turn)) }
        }
    }

    func release(_ call: Int, _ fate: HeldVectors.Fate) {
        let turn = state.withLock { state in
            state.waiting.firstIndex { $0.call == call }.map { state.waiting.remove(at: $0).turn }
        }
        turn?.resume(returning: fate)
    }

    /// Waits until every call that runs waits for its turn.
    func quiet() async throws {
        await withCheckedContinuation { (quiet: CheckedContinuation<Void, Never>) in change { $0.quiet = quiet } }
    }

    private func change(_ body: (inout State) -> Void) {
        let quiet = state.withLock { state -> CheckedContinuation<Void, Never>? in
            body(&state)
            guard state.waiting.count >= state.running.count else { return nil }
            defer { state.quiet = nil }
            return state.quiet
        }
        quiet?.resume()
    }
}
