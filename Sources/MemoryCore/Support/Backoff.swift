/// Exponential backoff with full jitter: a random wait between zero and `base · 2^attempt`, at most `cap`.
///
/// Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
struct Backoff: Sendable {
    var base: Duration
    var cap: Duration

    /// The wait before the try after `attempt` failures, from 0; more than 30 count as 30.
    func delay(attempt: Int, _ surroundings: any Surroundings = SystemSurroundings()) -> Duration {
        let ceiling = min(cap, base * (1 << min(max(attempt, 0), 30)))
        return ceiling * surroundings.random(in: 0...1)
    }
}
