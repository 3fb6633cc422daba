import Dispatch
import Glibc
import Synchronization

/// A call that is waited for until its deadline.
protocol Expiring: AnyObject, Sendable {
    /// Called once its time may be over; answers until when to go on waiting, nil when there is nothing left to do.
    func expire() -> Deadline?
}

/// One thread that beats while there are deadlines: it ends waits whose time is over, and by its own delays knows when the
/// whole process was held up.
///
/// Watching a call costs an append to a list: a wheel of ticks, in which calls that ended meanwhile stay until their tick.
///
/// Source of the wheel: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987.
final class Pulse: Sendable {
    static let shared = Pulse()

    /// How far apart two beats are: waits end up to so much after their deadline.
    static let tick: Int64 = 10_000_000
    /// A beat that is later than this was not only waiting for its turn.
    private static let tolerance: Int64 = 25_000_000
    /// For how long it beats after the last deadline was set.
    private static let rest: Int64 = 500_000_000
    private static let slots = 256

    private struct Entry {
        let tick: Int64
        let call: any Expiring
    }

    private struct State {
        var slots = [[Entry]](repeating: [], count: Pulse.slots)
        var count = 0
        /// The last tick that was looked at.
        var current: Int64 = 0
        var isBeating = false
        var hasThread = false
    }

    private let state = Mutex(State())
    private let waking = DispatchSemaphore(value: 0)
    private let lastUse = Atomic<Int64>(0)
    /// When it beat last; 0 while it rests.
    private let lastBeat = Atomic<Int64>(0)
    /// How long the process was held up, all in all.
    private let total = Atomic<Int64>(0)

    /// Nanoseconds of the monotonic clock.
    static var now: Int64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }

    /// How long this process was held up so far, including a pause that it is just waking up from.
    func lost(asOf now: Int64) -> Int64 {
        // In the other order than they are written: a pause may be counted twice for a moment, but never not at all.
        let beat = lastBeat.load(ordering: .acquiring)
        let known = total.load(ordering: .acquiring)
        guard beat > 0, now - beat > Self.tolerance else { return known }
        return known + now - beat - Self.tick
    }

    /// Notes that a deadline was set.
    func keepBeating(_ now: Int64) {
        let last = lastUse.load(ordering: .relaxed)
        guard now - last > Self.rest / 4 || lastBeat.load(ordering: .relaxed) == 0 else { return }
        lastUse.store(now, ordering: .relaxed)
        if lastBeat.load(ordering: .relaxed) == 0 { start(now) }
    }

    /// Has a call looked at when its deadline passes.
    func watch(_ call: some Expiring, until deadline: Deadline) {
        // Before its tick is looked up: while it rests, the wheel stands still.
        if lastBeat.load(ordering: .relaxed) == 0 { start(Self.now) }
        let isBeating = state.withLock { state in
            let tick = max(deadline.tick, state.current + 1)
            state.slots[Int(tick & Int64(Self.slots - 1))].append(Entry(tick: tick, call: call))
            state.count += 1
            return state.isBeating
        }
        // It may have gone to rest in between.
        if !isBeating { start(Self.now) }
    }

    private func start(_ now: Int64) {
        let needsThread: Bool? = state.withLock { state in
            guard !state.isBeating else { return nil }
            state.isBeating = true
            // What was watched while it went to rest may be due in any tick since.
            if state.count == 0 { state.current = max(state.current, now / Self.tick - 1) }
            lastBeat.store(now, ordering: .releasing)
            defer { state.hasThread = true }
            return !state.hasThread
        }
        switch needsThread {
        case nil: break
        case false?: waking.signal()
        case true?:
            do {
                try startThread { [self] in beat() }
            } catch {
                // No thread to be had now; the next deadline tries again.
                lastBeat.store(0, ordering: .releasing)
                state.withLock { ($0.isBeating, $0.hasThread) = (false, false) }
            }
        }
    }

    // MARK: The thread

    private func beat() {
        while true {
            let now = Self.now
            let gap = now - lastBeat.load(ordering: .relaxed)
            if gap > Self.tolerance { total.add(gap - Self.tick, ordering: .releasing) }
            lastBeat.store(now, ordering: .releasing)
            let (due, goesOn) = turn(now)
            for call in due {
                if let later = call.expire() { watch(again: call, until: later) }
            }
            if goesOn {
                pauseThread(.nanoseconds(Self.tick - Self.now % Self.tick))
            } else {
                waking.wait()
            }
        }
    }

    private func watch(again call: any Expiring, until deadline: Deadline) { watch(call, until: deadline) }

    /// Takes what is due; whether to go on beating.
    private func turn(_ now: Int64) -> (due: [any Expiring], goesOn: Bool) {
        state.withLock { state in
            let tick = now / Self.tick
            var due: [any Expiring] = []
            // After a pause of a whole round each slot is looked at once.
            for passed in stride(from: max(state.current + 1, tick - Int64(Self.slots) + 1), through: tick, by: 1) {
                let slot = Int(passed & Int64(Self.slots - 1))
                guard !state.slots[slot].isEmpty else { continue }
                let entries = state.slots[slot]
                state.slots[slot] = entries.filter { $0.tick > tick }
                for entry in entries where entry.tick <= tick { due.append(entry.call) }
            }
            state.current = max(state.current, tick)
            state.count -= due.count
            if state.count == 0, due.isEmpty, now - lastUse.load(ordering: .relaxed) > Self.rest {
                state.isBeating = false
                lastBeat.store(0, ordering: .releasing)
            }
            return (due, state.isBeating)
        }
    }
}
