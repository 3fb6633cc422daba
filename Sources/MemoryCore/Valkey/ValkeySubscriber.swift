import Logging
import Synchronization

/// Listens to channels on a connection and a thread of its own, which goes on after every loss. What is published while there
/// is no connection is not heard: pub/sub keeps nothing.
final class ValkeySubscriber: Sendable {
    /// What was published.
    struct Message: Sendable {
        let channel: String
        let payload: [UInt8]
    }

    /// What was heard; it ends with ``close()``.
    let messages: AsyncStream<Message>

    private let continuation: AsyncStream<Message>.Continuation
    private let configuration: ValkeyConfiguration
    private let channels: [String]
    private let logger: Logger
    private let isClosed = Atomic(false)

    init(_ configuration: ValkeyConfiguration, channels: [String], logger: Logger) throws(MemoryError) {
        self.configuration = configuration
        self.channels = channels
        self.logger = logger
        // Whoever reads is slower than whoever publishes now and then; beyond this the oldest are lost.
        (messages, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(10_000))
        try startThread { [self] in serve() }
    }

    func close() {
        isClosed.store(true, ordering: .relaxed)
        continuation.finish()
    }

    private func serve() {
        let backoff = Backoff(base: .milliseconds(100), cap: .seconds(2))
        let outage = Outage("Listening to channels", logger: logger)
        var failures = 0
        while !isClosed.load(ordering: .relaxed) {
            do throws(MemoryError) {
                let handle = try ValkeyHandle.open(
                    host: configuration.host, port: configuration.port, deadline: .after(configuration.connectTimeout))
                try subscribe(handle)
                failures = 0
                outage.succeeded()
                while !isClosed.load(ordering: .relaxed) {
                    if let reply = try handle.next(within: .milliseconds(500)) { hear(reply) }
                }
            } catch {
                outage.failed(error)
                failures += 1
                pauseThread(backoff.delay(attempt: failures))
            }
        }
    }

    private func subscribe(_ handle: borrowing ValkeyHandle) throws(MemoryError) {
        let commands = configuration.authentication + channels.map { ["SUBSCRIBE", $0] }
        let replies = try handle.run(
            commands.map { $0.map { Array($0.utf8) } }, deadline: .after(configuration.connectTimeout))
        for case .error(let message) in replies {
            throw .unavailable(.valkey, message, driverCode: message.errorClass)
        }
    }

    private func hear(_ reply: ValkeyReply) {
        guard case .array(let parts) = reply, parts.count == 3, case .bytes(let kind) = parts[0],
            kind == Array("message".utf8), case .bytes(let channel) = parts[1], case .bytes(let payload) = parts[2]
        else { return }
        continuation.yield(Message(channel: String(decoding: channel, as: UTF8.self), payload: payload))
    }
}
