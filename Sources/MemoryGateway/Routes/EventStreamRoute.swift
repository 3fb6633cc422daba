import Hummingbird
import MemoryCore
import NIOCore
import ServiceLifecycle

/// The events as server-sent events.
enum EventStreamRoute {
    /// A comment this often keeps proxies from closing a quiet connection, and finds readers that have gone: they hold a place.
    private static let pingInterval: Duration = .seconds(3)

    /// The place among those who follow is taken before the answer begins, so that one too many is told so.
    static func response(_ call: Call, _ filter: EventFilter) async throws -> Response {
        let stream = try await call.memory.eventStream(filter, after: try lastEventID(call.request))
        let requestID = call.context.requestID
        let body = ResponseBody { writer in
            // A shutdown waits for requests, and this one would never end by itself.
            try await withGracefulShutdownHandler {
                do throws(MemoryError) {
                    try await write(stream, to: &writer)
                } catch {
                    try await writer.write(failure(error, requestID: requestID))
                }
            } onGracefulShutdown: {
                stream.end()
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

    /// Writes events until the stream ends or fails, or the reader has gone.
    @concurrent
    private static func write(_ stream: EventStream, to writer: inout any ResponseBodyWriter) async throws(MemoryError)
    {
        var lastWrite = ContinuousClock.now - pingInterval
        for try await events in stream {
            guard !events.isEmpty || .now - lastWrite >= pingInterval else { continue }
            lastWrite = .now
            var buffer = ByteBuffer()
            if events.isEmpty { buffer.writeString(": \n\n") }
            for event in events { write(event, to: &buffer) }
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
