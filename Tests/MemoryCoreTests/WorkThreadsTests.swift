import MemoryTestSupport
import Synchronization
import Testing

@testable import MemoryCore

/// Work that takes longer than a millisecond has threads of its own.
@Suite("Work threads")
struct WorkThreadsTests {
    /// Holds the threads of a job until it is opened.
    private final class Barrier: Sendable {
        private let isOpen = Atomic(false)
        func open() { isOpen.store(true, ordering: .releasing) }
        func wait() { while !isOpen.load(ordering: .acquiring) { pauseThread(.milliseconds(1)) } }
    }

    @Test("While every thread works, tasks go on; the queue is bounded", .timeLimit(.minutes(1)))
    func bounded() async throws {
        let threads = WorkThreads(count: 2, maxWaiting: 3)
        let barrier = Barrier()
        try await withThrowingTaskGroup(of: Int.self) { group in
            let started = Shared(0)
            for number in 0..<2 {
                group.addTask {
                    try await threads.run(deadline: .after(.seconds(30))) {
                        started.withLock { $0 += 1 }
                        barrier.wait()
                        return number
                    }
                }
            }
            while started.value < 2 { await Task.yield() }
            for number in 2..<5 {
                group.addTask { try await threads.run(deadline: .after(.seconds(30))) { number } }
            }
            while threads.waitingCount < 3 { await Task.yield() }
            // This task runs, although two jobs block: they are not on its pool. A sixth job finds no place.
            let error = await #expect(throws: MemoryError.self) {
                try await threads.run(deadline: .after(.seconds(30))) { 5 }
            }
            #expect(error?.code == .overloaded)
            barrier.open()
            var done: Set<Int> = []
            for try await number in group { done.insert(number) }
            #expect(done == [0, 1, 2, 3, 4])
        }
        // The threads have ended; new ones come with new work.
        #expect(try await threads.run(deadline: .after(.seconds(30))) { 6 } == 6)
    }

    @Test("Work whose deadline has passed when its turn comes is not begun", .timeLimit(.minutes(1)))
    func late() async throws {
        let threads = WorkThreads(count: 1, maxWaiting: 3)
        let hasRun = Shared(false)
        let error = await #expect(throws: MemoryError.self) {
            try await threads.run(deadline: .after(.zero)) { hasRun.withLock { $0 = true } }
        }
        #expect(error?.code == .overloaded && !hasRun.value)
    }

    @Test("An error of the work is the error of the call")
    func fails() async throws {
        let error = await #expect(throws: MemoryError.self) {
            try await WorkThreads.shared.run(deadline: .after(.seconds(30))) { () throws(MemoryError) -> Int in
                throw .invalid("no", field: "x")
            }
        }
        #expect(error?.field == "x")
    }
}
