/// A point on the monotonic clock after which a result is of no use.
package struct Deadline: Sendable, Comparable {
    private let instant: ContinuousClock.Instant

    private init(_ instant: ContinuousClock.Instant) { self.instant = instant }

    package static func after(_ duration: Duration) -> Deadline { Deadline(.now + duration) }

    /// The earlier of this deadline and one `duration` from now.
    func capped(at duration: Duration) -> Deadline { min(self, .after(duration)) }

    var remaining: Duration { max(.zero, instant - .now) }

    var hasPassed: Bool { instant <= .now }

    /// Whole milliseconds that remain, rounded up so that a wait of this length does not end just before the deadline.
    var remainingMilliseconds: Int32 {
        Int32(clamping: (remaining.nanoseconds + 999_999) / 1_000_000)
    }

    package static func < (left: Deadline, right: Deadline) -> Bool { left.instant < right.instant }
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
