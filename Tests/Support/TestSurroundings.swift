import Synchronization

@testable package import MemoryCore

/// Time that goes only when the test says so, and chance that repeats itself for a seed.
package final class TestSurroundings: Surroundings {
    private struct State {
        var elapsed = Duration.zero
        var generator: SeededGenerator
        var sleepers: [Int: (until: Duration, wake: CheckedContinuation<Void, any Error>)] = [:]
        var nextSleeper = 0
    }

    private let start = (wall: Timestamp.now, instant: ContinuousClock.now)
    private let state: Mutex<State>

    package init(seed: UInt64) { state = Mutex(State(generator: SeededGenerator(seed: seed))) }

    package var now: Timestamp { state.withLock { start.wall.advanced(by: $0.elapsed) } }
    package var instant: ContinuousClock.Instant { state.withLock { start.instant + $0.elapsed } }
    package func random() -> UInt64 { state.withLock { $0.generator.next() } }

    /// How many wait for time to pass.
    package var sleepers: Int { state.withLock { $0.sleepers.count } }

    /// Lets time pass, on both clocks, and wakes whoever has waited long enough.
    package func advance(by duration: Duration) {
        let due = state.withLock { state in
            state.elapsed += duration
            let due = state.sleepers.filter { $0.value.until <= state.elapsed }
            for id in due.keys { state.sleepers[id] = nil }
            return due.values.map(\.wake)
        }
        for wake in due { wake.resume() }
    }

    package func sleep(for duration: Duration) async throws {
        let id = state.withLock { state in
            state.nextSleeper += 1
            return state.nextSleeper
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (wake: CheckedContinuation<Void, any Error>) in
                state.withLock { $0.sleepers[id] = ($0.elapsed + duration, wake) }
                // A cancellation that came before found nobody to wake.
                if Task.isCancelled { cancel(id) }
            }
        } onCancel: {
            cancel(id)
        }
    }

    private func cancel(_ id: Int) {
        let wake = state.withLock { $0.sleepers.removeValue(forKey: id)?.wake }
        wake?.resume(throwing: CancellationError())
    }
}

/// SplitMix64. Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
