import Hummingbird
import MemoryCore
import NIOCore
import ServiceLifecycle

/// The events as server-sent events.
enum EventStreamRoute {
    /// A comment this often keeps proxies from closing a quiet connection, and finds readers that have gone: they hold a place.
    private static let pingInterval: Duration = .seconds(3)

    /// Whoever takes so long to read what was written has gone, or wants the place and not the events.
    private static let readTimeout: TimeAmount = .seconds(30)
    /// How long a reader may keep a shutdown waiting.
    private static let lastRead: TimeAmount = .seconds(1)

    /// The place among those who follow is taken before the answer begins, so that one too many is told so.
    static func response(_ call: Call, _ filter: EventFilter) async throws -> Response {
        let place = try call.takeStreamPlace()
        let stream = try await call.memory.eventStream(filter, after: try lastEventID(call.request))
        let (requestID, channel) = (call.context.requestID, call.context.channel)
        let body = ResponseBody { writer in
            defer { withExtendedLifetime(place) {} }
            // A shutdown waits for requests, and this one would never end by itself.
            try await withGracefulShutdownHandler {
                do throws(MemoryError) {
                    try await write(stream, of: call, to: &writer, on: channel)
                } catch {
                    try await writer.write(failure(error, requestID: requestID))
                }
            } onGracefulShutdown: {
                stream.end()
                channel.eventLoop.scheduleTask(in: lastRead) { channel.close(promise: nil) }
            }
            try await writer.finish(nil)
        }
        return Response(
            status: .ok, headers: [.contentType: "text/event-stream", .cacheControl: "no-cache"], body: body)
    }

    private static func lastEventID(_ request: Request) throws(MemoryError) -> Int64? {
        guard let text = request.headers[.lastEventID] else { return nil }
        guard let id = Int64(text), id >= 0 else {
            throw MemoryError(invalid: "Last-Event-ID must be the id of an event", field: "Last-Event-ID")
        }
        return id
    }

    /// How often the key is asked for again: a stream ends soon after its key.
    private static let keyInterval: Duration = .seconds(1)

    /// Writes events until the stream ends or fails, the reader has gone, or the key has ended.
    @concurrent
    private static func write(
        _ stream: EventStream, of call: Call, to writer: inout any ResponseBodyWriter, on channel: any Channel
    ) async throws(MemoryError) {
        var lastCheck = ContinuousClock.now
        var lastWrite = ContinuousClock.now - pingInterval
        for try await events in stream {
            if .now - lastCheck >= keyInterval {
                guard await call.isStillAdmitted() else { throw MemoryError(.unauthorized, "The API key has ended") }
                lastCheck = .now
            }
            guard !events.isEmpty || .now - lastWrite >= pingInterval else { continue }
            lastWrite = .now
            var buffer = ByteBuffer()
            if events.isEmpty { buffer.writeString(": \n\n") }
            for event in events { write(event, to: &buffer) }
            let end = channel.eventLoop.scheduleTask(in: readTimeout) { channel.close(promise: nil) }
            defer { end.cancel() }
            do {
                try await writer.write(buffer)
            } catch {
                return
            }
        }
    }

    private static func write(_ event: Event, to buffer: inout ByteBuffer) {
        // A type may hold a line break, which would end the field.
        let type = event.type.map { $0.isNewline ? " " : $0 }
        buffer.writeString("id: \(event.id)\nevent: \(String(type))\ndata: ")
        buffer.writeBytes(event.json.encoded)
        buffer.writeString("\n\n")
    }

    /// What a stream that failed ends with, so that it does not look complete.
    private static func failure(_ error: MemoryError, requestID: String) -> ByteBuffer {
        var writer = JSONWriter()
        ErrorAnswer.Problem(error).write(to: &writer, requestID: requestID)
        var buffer = ByteBuffer(string: "event: error\ndata: ")
        buffer.writeBytes(writer.bytes)
        buffer.writeString("\n\n")
        return buffer
    }
}
