import CoreMetrics
import HTTPTypes
import Hummingbird
import Synchronization

/// Counts and times requests by the template of their route, which callers cannot invent.
final class MetricsMiddleware: RouterMiddleware {
    private struct Key: Hashable {
        let route: String
        let method: String
        let status: Int
    }

    private struct Metrics: Sendable {
        let requests: Counter
        let duration: Timer
    }

    private let known = Mutex<[Key: Metrics]>([:])

    func handle(
        _ request: Request, context: GatewayContext,
        next: @concurrent (Request, GatewayContext) async throws -> Response
    ) async throws -> Response {
        let start = ContinuousClock.now
        let response = try await next(request, context)
        let method = Self.methods.contains(request.method) ? request.method.rawValue : "other"
        let metrics = metrics(
            Key(route: context.endpointPath ?? "none", method: method, status: response.status.code))
        metrics.requests.increment()
        let (seconds, attoseconds) = (ContinuousClock.now - start).components
        metrics.duration.recordNanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
        return response
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
