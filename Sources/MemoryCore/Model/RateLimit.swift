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
        self.burst = max(1, burst ?? Int(clamping: Int64(perSecond.rounded(.up))))
    }

    /// The time between two calls, in microseconds.
    var interval: Int64 { max(1, Int64(1_000_000 / max(perSecond, 1e-6))) }

    /// How far the theoretical arrival time may be ahead of a call, in microseconds.
    var tolerance: Int64 { interval * Int64(burst) }

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
