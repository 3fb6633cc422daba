import CoreMetrics
import HTTPTypes
import Hummingbird
import Synchronization

/// Counts and times requests by the template of their route, which callers cannot invent.
final class RequestMetrics: Sendable {
    private struct Key: Hashable {
        let route: String
        let method: String
        let status: Int
    }

    private struct Metrics: Sendable {
        let requests: Counter
        let duration: Timer
    }

    /// How many requests are being answered.
    static let underWay = Atomic<Int>(0)

    private let known = Mutex<[Key: Metrics]>([:])

    func record(_ request: Request, _ context: GatewayContext, _ status: HTTPResponse.Status, _ duration: Duration) {
        let method = Self.methods.contains(request.method) ? request.method.rawValue : "other"
        let metrics = metrics(Key(route: context.endpointPath ?? "none", method: method, status: status.code))
        metrics.requests.increment()
        let (seconds, attoseconds) = duration.components
        metrics.duration.recordNanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }

    private static let methods: Set<HTTPRequest.Method> = [.get, .head, .post, .put, .patch, .delete, .options]

    private func metrics(_ key: Key) -> Metrics {
        known.withLock { known in
            if let metrics = known[key] { return metrics }
            let labels = [("route", key.route), ("method", key.method)]
            let metrics = Metrics(
                requests: Counter(
                    label: "memory_gateway_requests_total", dimensions: labels + [("status", String(key.status))]),
                duration: Timer(label: "memory_gateway_request_duration_seconds", dimensions: labels))
            known[key] = metrics
            return metrics
        }
    }
}
