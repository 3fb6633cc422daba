/// So many calls in a time, as the generic cell rate algorithm counts them: one number, the theoretical arrival time, says
/// all there is to know of a caller.
///
/// Source: ITU-T I.371, "Generic cell rate algorithm"; the virtual scheduling form.
public struct RateLimit: Sendable {
    /// How many calls a second, on average.
    public var perSecond: Double
    /// How many calls may come at once.
    public var burst: Int

    /// A rate, with a burst of one second's calls unless another is given.
    public init(perSecond: Double, burst: Int? = nil) {
        self.perSecond = perSecond
        self.burst = max(1, burst ?? Int(Self.within(1e-6...1e6, perSecond).rounded(.up)))
    }

    /// A rate that can be counted in microseconds; what is no number is the slowest.
    private static func within(_ range: ClosedRange<Double>, _ rate: Double) -> Double {
        rate >= range.lowerBound ? min(rate, range.upperBound) : range.lowerBound
    }

    /// The time between two calls, in microseconds.
    var interval: Int64 { Int64(1_000_000 / Self.within(1e-6...1e6, perSecond)) }

    /// How far the theoretical arrival time may be ahead of a call, in microseconds: at most some 35,000 years.
    var tolerance: Int64 {
        let (product, overflow) = interval.multipliedReportingOverflow(by: Int64(max(1, burst)))
        return overflow ? 1 << 60 : min(product, 1 << 60)
    }

    /// Counts a call.
    ///
    /// `arrival`: the theoretical arrival time so far, which this moves.
    /// - Returns: nil when the call conforms, else how long to wait.
    func take(_ arrival: inout Int64, now: Int64) -> Duration? {
        let next = max(arrival, now) + interval
        guard next - now <= tolerance else { return .microseconds(next - now - tolerance) }
        arrival = next
        return nil
    }
}
