import HTTPTypes
import Hummingbird
import Logging
import MemoryCore
import NIOCore

/// The one place where errors become answers. What nobody expected is logged, with the request's id.
enum ErrorAnswer {
    static func response(to error: any Error, _ request: Request, _ context: GatewayContext) -> Response {
        switch error {
        case let error as MemoryError:
            log(error, context)
            return response(error, requestID: context.requestID)
        case let error as any HTTPResponseError:
            let methods = error.status == .notFound ? EndpointRouter.methods(at: request.uri.path) : []
            guard methods.isEmpty else { return notAllowed(methods, context) }
            return response(Problem(error.status), requestID: context.requestID)
        default:
            context.logger.error(
                "An unexpected error", metadata: [LogKey.requestID: "\(context.requestID)", LogKey.error: "\(error)"])
            return response(Problem(.internalServerError), requestID: context.requestID)
        }
    }

    /// The path is there, the method is not: 405 says what is, where a 404 would say nothing.
    private static func notAllowed(_ methods: [HTTPRequest.Method], _ context: GatewayContext) -> Response {
        var response = response(Problem(.methodNotAllowed), requestID: context.requestID)
        response.headers[.allow] = Set(methods.map(\.rawValue)).sorted().joined(separator: ", ")
        return response
    }

    private static func log(_ error: MemoryError, _ context: GatewayContext) {
        // That a store is away is said once by the store, and overload once by the gate, not by each request.
        let isSaid = [.unavailable, .timeout, .overloaded].contains(error.code) && error.isRetriable
        let isOurs = error.status.code >= 500 && !isSaid
        context.logger.log(
            level: isOurs ? .warning : .debug, "A request failed",
            metadata: [LogKey.requestID: "\(context.requestID)", LogKey.error: "\(error.debugDescription)"])
    }

    // MARK: Bodies

    /// What an error body says.
    struct Problem {
        var status: HTTPResponse.Status
        var code: String
        var message: String
        var field: String?
        var outcome: String?

        init(_ error: MemoryError) {
            status = error.status
            let isAway = status == .serviceUnavailable && ![.overloaded, .idsExhausted].contains(error.code)
            code = isAway ? "unavailable" : error.code.description
            message = isAway && error.code != .unavailable ? "Primary storage unavailable, please retry" : error.message
            field = error.field
            outcome = error.outcome?.rawValue
            if status.code < 500 { outcome = nil }
        }

        /// What the server itself refuses, before a route is reached.
        init(_ status: HTTPResponse.Status) {
            self.status = status
            switch status {
            case .notFound: (code, message) = ("not_found", "There is no such route")
            case .methodNotAllowed: (code, message) = ("method_not_allowed", "This route has no such method")
            case .requestTimeout: (code, message) = ("invalid_request", "The body came too slowly")
            case .contentTooLarge: (code, message) = ("too_large", "The body is too large")
            case .unsupportedMediaType:
                (code, message) = ("unsupported_media_type", "The body must be application/json, and not compressed")
            case _ where status.code < 500: (code, message) = ("invalid_request", "The request is malformed")
            default: (code, message) = ("internal", "Something went wrong here")
            }
        }

        func write(to writer: inout JSONWriter, requestID: String?) {
            writer.beginObject()
            for (key, value) in [
                ("error", message), ("code", code), ("field", field), ("outcome", outcome), ("request_id", requestID),
            ] {
                guard let value else { continue }
                writer.key(key)
                writer.string(value)
            }
            writer.endObject()
        }
    }

    private static func response(_ error: MemoryError, requestID: String) -> Response {
        var response = response(Problem(error), requestID: requestID)
        // Without ids left nothing changes by trying again.
        if [.serviceUnavailable, .tooManyRequests].contains(response.status), error.code != .idsExhausted {
            let seconds = error.retryAfter.map { max(1, $0.components.seconds + 1) } ?? 1
            response.headers[.retryAfter] = String(seconds)
        }
        if response.status == .unauthorized { response.headers[.wwwAuthenticate] = "Bearer" }
        return response
    }

    static func response(_ problem: Problem, requestID: String) -> Response {
        var writer = JSONWriter()
        problem.write(to: &writer, requestID: requestID)
        return .json(writer.bytes, status: problem.status)
    }
}

extension MemoryError {
    /// The status of each code.
    var status: HTTPResponse.Status {
        switch code {
        case .invalidRequest: .badRequest
        case .notFound: .notFound
        case .conflict: .conflict
        case .tooLarge: .contentTooLarge
        case .unprocessable: .unprocessableContent
        case .unauthorized: .unauthorized
        case .forbidden: .forbidden
        case .rateLimited: .tooManyRequests
        // A primary store that does not answer in time is as good as away; other waits are the request's own.
        case .timeout: store?.isPrimary == true ? .serviceUnavailable : .gatewayTimeout
        default: .serviceUnavailable
        }
    }
}

extension HTTPResponse.Status {
    /// 207: stored, but not everywhere yet.
    static let multiStatus = HTTPResponse.Status(code: 207, reasonPhrase: "Multi-Status")
}

extension Response {
    /// A JSON answer.
    static func json(_ bytes: [UInt8], status: HTTPResponse.Status = .ok) -> Response {
        Response(
            status: status, headers: [.contentType: "application/json; charset=utf-8"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}
