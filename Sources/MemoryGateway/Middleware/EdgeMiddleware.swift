import HTTPTypes
import Hummingbird
import Synchronization

/// What every request and answer has: an id, an error body for every error, the headers of all answers, its place in the
/// metrics. One middleware, because each costs every request a suspension.
struct EdgeMiddleware: RouterMiddleware {
    private let metrics = RequestMetrics()

    func handle(
        _ request: Request, context: GatewayContext,
        next: @concurrent (Request, GatewayContext) async throws -> Response
    ) async throws -> Response {
        let start = ContinuousClock.now
        RequestMetrics.underWay.wrappingAdd(1, ordering: .relaxed)
        defer { RequestMetrics.underWay.wrappingSubtract(1, ordering: .relaxed) }
        var context = context
        context.requestID = RequestID.of(request)
        var response: Response
        do {
            response = try await next(request, context)
        } catch {
            response = ErrorAnswer.response(to: error, request, context)
        }
        response.headers[.requestID] = context.requestID
        // Memories are nobody's to keep or to guess at on the way.
        response.headers[.xContentTypeOptions] = "nosniff"
        if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-store" }
        metrics.record(request, context, response.status, .now - start)
        return response
    }
}
