import CoreMetrics
import HTTPTypes
import Logging
import MemoryCore
import Synchronization

/// Keeps account of calls that were refused for their key (401, 403): each in a metric, and a line of the log a minute for each
/// key at most, which says how many there were. All calls without a known key count as one, or a stranger would fill the log.
final class Refusals: Sendable {
    private struct Line {
        var nextAt: ContinuousClock.Instant
        var unsaid = 0
    }

    private static let pause: Duration = .seconds(60)

    private let lines = Mutex<[String: Line]>([:])
    private let logger: Logger
    private let counters: [MemoryError.Code: Counter]

    init(logger: Logger) {
        self.logger = logger
        counters = Dictionary(
            uniqueKeysWithValues: [MemoryError.Code.unauthorized, .forbidden].map { code in
                (code, Counter(label: "memory_gateway_refused_total", dimensions: [("reason", code.description)]))
            })
    }

    /// Notes an error of a request, if it is a refusal. `now` is for tests.
    func note(
        _ error: MemoryError, key: String?, address: String?, path: String, now: ContinuousClock.Instant = .now
    ) {
        guard let counter = counters[error.code] else { return }
        counter.increment()
        let who = key ?? "none"
        let count = lines.withLock { lines -> Int? in
            var line = lines[who] ?? Line(nextAt: now)
            line.unsaid += 1
            defer { lines[who] = line }
            guard line.nextAt <= now else { return nil }
            defer { (line.nextAt, line.unsaid) = (now + Self.pause, 0) }
            return line.unsaid
        }
        guard let count else { return }
        logger.notice(
            "Calls were refused",
            metadata: [
                LogKey.key: "\(who)", LogKey.address: "\(address ?? "")", LogKey.route: "\(path)",
                LogKey.code: "\(error.code)", LogKey.count: "\(count)",
            ])
    }
}
