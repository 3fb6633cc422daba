import Hummingbird

/// What travels with a request.
struct GatewayContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    /// The request's id: the caller's, or one that was made here.
    var requestID = ""

    init(source: Source) { coreContext = .init(source: source) }
}
