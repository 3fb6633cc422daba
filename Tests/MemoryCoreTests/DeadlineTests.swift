import Dispatch
import Logging
import MemoryTestSupport
import Synchronization
import Testing

@testable import MemoryCore

/// Every call keeps its own deadline, whatever shares its batch, its connection or its pool.
@Suite("Deadlines")
struct DeadlineTests {
    static let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// Looks again and again, for as long as a call may take that has lost its deadline and not for ever.
    private func comes(_ holds: @Sendable () async throws -> Bool) async rethrows -> Bool {
        let limit = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < limit {
            if try await holds() { return true }
            try? await Task.sleep(for: .milliseconds(5))
        }
        return false
    }

    /// How a call ended; nil while it has not.
    private final class Ending<Value: Sendable>: Sendable {
        private let result = Shared<Result<Value, MemoryError>?>(nil)
        var value: Result<Value, MemoryError>? { result.value }
        var error: MemoryError? { if case .failure(let error)? = result.value { error } else { nil } }

        init(_ call: @escaping @Sendable () async throws(MemoryError) -> Value) {
            Task {
                do throws(MemoryError) {
                    let value = try await call()
                    result.value = .success(value)
                } catch {
                    result.value = .failure(error)
                }
            }
        }
    }

    // MARK: Batches

    @Test("A call that waits behind a batch ends at its own deadline", .timeLimit(.minutes(5)))
    func behindABatch() async throws {
        let (gate, opener) = AsyncStream<Void>.makeStream()
        let seen = Shared<[Int]>([])
        let coalescer = Coalescer<Int, Int>(store: .postgres, maxBatch: 8, maxRunning: 1) { inputs, _ in
            seen.withLock { $0 += inputs }
            if inputs == [0] { for await _ in gate { break } }
            return inputs.map { .success($0 * 10) }
        }
        let long = Ending { () throws(MemoryError) in try await coalescer.submit(0, deadline: .after(.seconds(240))) }
        #expect(await comes { seen.value == [0] })
        let short = Ending { () throws(MemoryError) in
            try await coalescer.submit(1, deadline: .after(.milliseconds(50)))
        }
        #expect(await comes { short.value != nil })
        #expect(short.error?.code == .timeout && long.value == nil)
        opener.yield()
        #expect(await comes { long.value != nil })
        #expect(try long.value?.get() == 0)
        #expect(seen.value == [0], "what nobody waits for is not worked on")
        #expect(coalescer.waitingCount == 0)
    }

    @Test("In a batch the short deadline ends, and the batch goes on for the long one", .timeLimit(.minutes(5)))
    func withinABatch() async throws {
        let gates = Shared<[Int: AsyncStream<Void>.Continuation]>([:])
        let coalescer = Coalescer<Int, Int>(store: .postgres, maxBatch: 8, maxRunning: 1) { inputs, _ in
            let (gate, opener) = AsyncStream<Void>.makeStream()
            gates.withLock { $0[inputs.count] = opener }
            for await _ in gate { break }
            return inputs.map { .success($0 * 10) }
        }
        let first = Ending { () throws(MemoryError) in try await coalescer.submit(0, deadline: .after(.seconds(240))) }
        #expect(await comes { gates.value[1] != nil })
        // Whoever comes first waits first: the short one would lead the next batch.
        let short = Ending { () throws(MemoryError) in try await coalescer.submit(1, deadline: .after(.seconds(5))) }
        #expect(await comes { coalescer.waitingCount == 1 })
        let long = Ending { () throws(MemoryError) in try await coalescer.submit(2, deadline: .after(.seconds(240))) }
        #expect(await comes { coalescer.waitingCount == 2 })
        gates.value[1]?.yield()
        #expect(await comes { gates.value[2] != nil })
        #expect(await comes { short.value != nil })
        #expect(short.error?.code == .timeout && long.value == nil)
        gates.value[2]?.yield()
        #expect(await comes { long.value != nil })
        #expect(try long.value?.get() == 20)
        #expect(try first.value?.get() == 0)
    }

    // MARK: Pools

    @Test("Behind a long statement on the only connection a short call keeps its deadline", .timeLimit(.minutes(5)))
    func pool() async throws {
        try await TestWorld.with { world async throws in
            var configuration = world.configuration.postgres
            configuration.connections = 1
            let database = try PostgresDatabase(configuration)
            let isRunning = Shared(false)
            let long = Ending { () throws(MemoryError) in
                try await database.read(deadline: .after(.seconds(240))) { session throws(MemoryError) in
                    isRunning.value = true
                    return try session.query("SELECT pg_sleep(4)", []).count
                }
            }
            #expect(await comes { isRunning.value })
            let short = Ending { () throws(MemoryError) in
                try await database.write(deadline: .after(.milliseconds(50))) { session throws(MemoryError) in
                    try session.execute("INSERT INTO plans (plan_title) VALUES ('late')", [])
                }
            }
            #expect(await comes { short.value != nil })
            #expect(short.error?.code == .timeout && short.error?.outcome == .notStored)
            #expect(long.value == nil, "the statement goes on")
            #expect(await comes { long.value != nil })
            #expect(try long.value?.get() == 1)
            #expect(try await world.execute("SELECT count(*) FROM plans") == [["0"]])
            await database.close()
        }
    }

    @Test("Behind long work on an embedded file a short call keeps its deadline", .timeLimit(.minutes(5)))
    func file() async throws {
        try await TestWorld.with(.embedded) { world async throws in
            try await world.withMemory { memory async throws in
                let database = memory.database
                let gate = DispatchSemaphore(value: 0)
                let inside = Shared(0)
                let readers = (0..<40).map { _ in
                    Ending { () throws(MemoryError) in
                        try await database.read(deadline: .after(.seconds(240))) { session throws(MemoryError) in
                            inside.withLock { $0 += 1 }
                            gate.wait()
                            return try session.query("SELECT 1", []).count
                        }
                    }
                }
                let writer = Ending { () throws(MemoryError) in
                    try await database.write(deadline: .after(.seconds(240))) { session throws(MemoryError) in
                        inside.withLock { $0 += 1 }
                        gate.wait()
                        return try session.query("SELECT 1", []).count
                    }
                }
                #expect(await comes { inside.value >= 2 })
                let read = Ending { () throws(MemoryError) in
                    try await database.read(deadline: .after(.milliseconds(50))) { session throws(MemoryError) in
                        try session.query("SELECT 1", []).count
                    }
                }
                let write = Ending { () throws(MemoryError) in
                    try await database.write(deadline: .after(.milliseconds(50))) { session throws(MemoryError) in
                        try session.execute("INSERT INTO plans (plan_title) VALUES ('late')", [])
                    }
                }
                #expect(await comes { read.value != nil && write.value != nil })
                #expect(read.error?.code == .timeout)
                #expect(write.error?.code == .timeout && write.error?.outcome == .notStored)
                for _ in 0..<41 { gate.signal() }
                #expect(await comes { readers.allSatisfy { $0.value != nil } && writer.value != nil })
                #expect(try await world.execute("SELECT count(*) FROM plans") == [["0"]])
            }
        }
    }

    // MARK: Valkey

    @Test(
        "On a frozen server a short call keeps its deadline beside a long one, and its late reply costs no connection",
        .timeLimit(.minutes(5)))
    func frozenValkey() async throws {
        try await TestWorld.with(own: [.valkey]) { world async throws in
            let connection = try ValkeyConnection(world.configuration.valkey)
            await connection.firstAttempt()
            @Sendable func say(_ word: String, _ time: Duration) async throws(MemoryError) -> String {
                let answer = try await connection.run([[Array("ECHO".utf8), Array(word.utf8)]], deadline: .after(time))
                guard case .bytes(let bytes)? = answer.replies.first else { return "" }
                return String(decoding: bytes, as: UTF8.self)
            }
            @Sendable func identity() async throws(MemoryError) -> Int64 {
                let answer = try await connection.run(
                    [[Array("CLIENT".utf8), Array("ID".utf8)]], deadline: .after(.seconds(10)))
                if case .int(let id)? = answer.replies.first { return id }
                return 0
            }
            let before = try await identity()
            try await world.perform(.pause, .valkey)
            let long = Ending { () throws(MemoryError) in try await say("long", .seconds(60)) }
            let short = Ending { () throws(MemoryError) in try await say("short", .milliseconds(50)) }
            #expect(await comes { short.value != nil })
            #expect(short.error != nil && long.value == nil)
            try await world.perform(.resume, .valkey)
            #expect(await comes { long.value != nil })
            #expect(try long.value?.get() == "long")
            #expect(try await say("next", .seconds(10)) == "next", "the late reply is dropped")
            #expect(try await identity() == before)
            await connection.close()
        }
    }
}
