import CoreMetrics
import Hummingbird
import Logging
import MemoryCore
import NIOCore
import Synchronization

/// Lets so many requests work at once as can be done in time, and says to the others that it is overload: 503 `overloaded`,
/// before anything is begun.
///
/// A place is held while a request is worked on: not while its body comes, which is as slow as its sender, nor while its
/// answer goes, which for a stream of events is for ever.
final class OverloadGate: Sendable {
    private typealias Waiter = CheckedContinuation<Bool, Never>

    private struct State {
        var queue: AdmissionQueue<Waiter>
        var isTicking = false
        /// Since when requests have been refused, while that lasts.
        var refusesSince: ContinuousClock.Instant?
        var lastRefusal: ContinuousClock.Instant?
    }

    private let state: Mutex<State>
    private let logger: Logger
    private let refusals = Counter(label: "memory_gateway_overloaded_total", dimensions: [("reason", "requests")])
    private let waiting = Gauge(label: "memory_gateway_admission_waiting")
    private let waits = Timer(label: "memory_gateway_admission_wait_seconds")

    /// How often those who wait are looked at when nobody comes or goes, and for how long it must have been calm to say so.
    private static let tick = TimeAmount.milliseconds(50)
    private static let calm = Duration.seconds(5)

    init(limits: AdmissionLimits, logger: Logger) {
        state = Mutex(State(queue: AdmissionQueue(limits: limits)))
        self.logger = logger
    }

    /// - Throws: ``MemoryError`` with `overloaded` when a request of this key would be refused: before its body is read.
    func check(_ key: String) throws(MemoryError) {
        guard !state.withLock({ $0.queue.refuses(key, now: .now) }) else { throw refusal() }
    }

    /// Waits for a place; whoever got one gives it back with ``leave()``.
    ///
    /// - Throws: ``MemoryError`` with `overloaded`.
    func enter(_ key: String) async throws(MemoryError) {
        guard !state.withLock({ $0.queue.enters(now: .now) }) else { return }
        let isIn = await withCheckedContinuation { (waiter: Waiter) in arrive(key, waiter) }
        guard isIn else { throw refusal() }
    }

    /// Gives a place back.
    func leave() {
        wake(state.withLock { $0.queue.leave(now: .now) })
    }

    private func arrive(_ key: String, _ waiter: Waiter) {
        let (arrival, startsTicking) = state.withLock { state in
            let arrival = state.queue.arrive(key, now: .now, waiter: waiter)
            guard case .waits = arrival, !state.isTicking else { return (arrival, false) }
            state.isTicking = true
            return (arrival, true)
        }
        switch arrival {
        case .enters: waiter.resume(returning: true)
        case .refused: waiter.resume(returning: false)
        case .waits(let pushedOut): pushedOut?.resume(returning: false)
        }
        if startsTicking { scheduleTick() }
    }

    private func wake(_ wakeups: AdmissionQueue<Waiter>.Wakeups) {
        for (waiter, waited) in wakeups.admitted {
            waits.recordNanoseconds(Int64(waited.milliseconds * 1_000_000))
            waiter.resume(returning: true)
        }
        for waiter in wakeups.refused { waiter.resume(returning: false) }
    }

    // MARK: Time passes

    /// While anybody waits, nobody waits too long, whether or not others come and go. An idle gateway has no timer.
    private func scheduleTick() {
        _ = EventLoopGroupProvider.singleton.eventLoopGroup.any().scheduleTask(in: Self.tick) { self.tick() }
    }

    private func tick() {
        let now = ContinuousClock.now
        let (expired, count, goesOn, ended) = state.withLock { state in
            let expired = state.queue.expire(now: now)
            var ended: Duration?
            if let since = state.refusesSince, let last = state.lastRefusal, now - last > Self.calm {
                ended = now - since
                state.refusesSince = nil
            }
            state.isTicking = state.queue.waiting > 0 || state.refusesSince != nil
            return (expired, state.queue.waiting, state.isTicking, ended)
        }
        waiting.record(count)
        for waiter in expired { waiter.resume(returning: false) }
        if let ended {
            logger.notice(
                "No more requests are refused for overload",
                metadata: ["seconds": "\(ended.components.seconds)"])
        }
        if goesOn { scheduleTick() }
    }

    /// The error of one who is refused. The first of many is said in the log.
    private func refusal() -> MemoryError {
        refusals.increment()
        let now = ContinuousClock.now
        let (isFirst, startsTicking) = state.withLock { state in
            state.lastRefusal = now
            let isFirst = state.refusesSince == nil
            if isFirst { state.refusesSince = now }
            let starts = !state.isTicking
            state.isTicking = true
            return (isFirst, starts)
        }
        if isFirst { logger.warning("More requests come than can be answered in time: some are refused as overloaded") }
        if startsTicking { scheduleTick() }
        return .overloaded("Too many requests at once, please retry")
    }
}
