/// The clock and the dice as the memory sees them. A program has the machine's; a test brings its own, lets an hour pass in no
/// time, and repeats a run by its seed.
///
/// Deadlines of calls are not among it: they bound real sockets and files, whatever a test says the time is. Nor are the
/// clocks of the stores, which decide about their leases and about when a row was made.
package protocol Surroundings: Sendable {
    /// The wall clock. It may jump; nothing is measured by it.
    var now: Timestamp { get }
    /// The monotonic clock.
    var instant: ContinuousClock.Instant { get }
    /// Waits on the monotonic clock.
    ///
    /// - Throws: `CancellationError`.
    func sleep(for duration: Duration) async throws
    /// 64 bits by chance; not for secrets.
    func random() -> UInt64
}

extension Surroundings {
    /// A number from the range, each as likely as another.
    func random(in range: ClosedRange<Double>) -> Double {
        let fraction = Double(random() >> 11) / Double((1 << 53) - 1)
        return range.lowerBound + (range.upperBound - range.lowerBound) * fraction
    }
}

/// The machine's clocks, and its chance.
struct SystemSurroundings: Surroundings {
    var now: Timestamp { .now }
    var instant: ContinuousClock.Instant { .now }
    func sleep(for duration: Duration) async throws { try await Task.sleep(for: duration) }
    func random() -> UInt64 { .random(in: .min ... .max) }
}
