/// A point on the monotonic clock after which a result is of no use.
///
/// Time in which the kernel held this process, as it does in a container that has used up its share of the processor,
/// does not count, up to the deadline's own length and half a second: nobody had a chance to answer in it.
package struct Deadline: Sendable, Comparable {
    /// Nanoseconds of the monotonic clock.
    private let instant: Int64
    /// What had been lost to pauses when it was set.
    private let lost: Int64
    /// How much of what is lost from then on is added at most.
    private let allowance: Int64

    private static let longestAllowance: Int64 = 500_000_000

    package static func after(_ duration: Duration) -> Deadline {
        let now = Pulse.now
        Pulse.shared.keepBeating(now)
        let length = duration.nanoseconds
        let (instant, overflow) = now.addingReportingOverflow(length)
        return Deadline(
            instant: overflow ? .max : instant, lost: Pulse.shared.lost(asOf: now),
            allowance: min(max(0, length), longestAllowance))
    }

    /// The earlier of this deadline and one `duration` from now.
    func capped(at duration: Duration) -> Deadline { min(self, .after(duration)) }

    var remaining: Duration { .nanoseconds(max(0, left)) }

    var hasPassed: Bool { left <= 0 }

    /// Whether this process was held up for a good part of it, so that its passing says little of whoever was waited for.
    var wasHeldUp: Bool { Pulse.shared.lost(asOf: Pulse.now) - lost > allowance / 4 }

    /// Whole milliseconds that remain, rounded up so that a wait of this length does not end just before the deadline.
    var remainingMilliseconds: Int32 { Int32(clamping: (max(0, left) + 999_999) / 1_000_000) }

    /// The tick of the pulse in which it passes, should nothing hold this process up.
    var tick: Int64 { instant / Pulse.tick + 1 }

    private var left: Int64 {
        let now = Pulse.now
        guard instant <= now else { return instant - now }
        return instant - now + min(allowance, Pulse.shared.lost(asOf: now) - lost)
    }

    package static func < (left: Deadline, right: Deadline) -> Bool { left.instant < right.instant }

    package static func == (left: Deadline, right: Deadline) -> Bool { left.instant == right.instant }
}

extension Duration {
    /// Whole nanoseconds, held within the range of `Int64` (292 years).
    var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? (seconds < 0 ? .min : .max) : product.addingReportingOverflow(attoseconds / 1_000_000_000).0
    }

    /// Fractional milliseconds.
    package var milliseconds: Double { Double(nanoseconds) / 1e6 }

    /// Whole milliseconds, at least one.
    var wholeMilliseconds: Int { max(1, Int(clamping: nanoseconds / 1_000_000)) }
}
