import Hummingbird
import NIOCore

/// What travels with a request.
struct GatewayContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    /// The request's id: the caller's, or one that was made here.
    var requestID = ""
    /// The connection, for an answer that must end it.
    let channel: any Channel
    /// The address at the other end of the connection.
    let address: String?

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        channel = source.channel
        address = source.channel.remoteAddress?.ipAddress
    }
}
