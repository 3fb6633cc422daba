import NIOCore
import NIOHTTPTypes

/// Closes connections of clients that are too slow to be of use: of whom no request comes, or whose body drips. Each holds
/// a file and memory, and thousands cost their sender nothing.
///
/// A request that arrives as a whole, as nearly all do, costs no timer.
final class SlowClientHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart

    /// How long a new connection may take to its first request, and a later request's head from its first byte.
    private static let head: TimeAmount = .seconds(15)
    /// How long a body may take in any case, and how many bytes a second it must bring beyond that.
    private static let body: TimeAmount = .seconds(15)
    private static let bytesPerSecond: Int64 = 512

    private var timer: Scheduled<Void>?
    /// When the body that is being read began, and what came of it.
    private var reading: (since: NIODeadline, bytes: Int64)?
    /// Whether what was read last was a part of a request.
    private var hasPart = false

    func handlerAdded(context: ChannelHandlerContext) {
        schedule(Self.head, context)
    }

    func handlerRemoved(context: ChannelHandlerContext) { stop() }

    func channelInactive(context: ChannelHandlerContext) {
        stop()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        hasPart = true
        switch unwrapInboundIn(data) {
        case .head:
            stop()
            reading = (.now(), 0)
        case .body(let buffer): reading?.bytes += Int64(buffer.readableBytes)
        case .end:
            stop()
            reading = nil
        }
        context.fireChannelRead(data)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if timer == nil {
            // Bytes that are no part of a request are the beginning of a head.
            if reading != nil { schedule(Self.body, context) } else if !hasPart { schedule(Self.head, context) }
        }
        hasPart = false
        context.fireChannelReadComplete()
    }

    // MARK: The timer

    private func schedule(_ delay: TimeAmount, _ context: ChannelHandlerContext) {
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: delay) { [self] in
            timer = nil
            guard let reading else { return context.close(promise: nil) }
            let seconds = (NIODeadline.now() - reading.since).nanoseconds / 1_000_000_000
            if reading.bytes < seconds * Self.bytesPerSecond {
                context.close(promise: nil)
            } else {
                schedule(.seconds(5), context)
            }
        }
    }

    private func stop() {
        timer?.cancel()
        timer = nil
    }
}
