import HTTPTypes
import Hummingbird

extension HTTPField.Name {
    static let requestID = requiredName("X-Request-Id")
    static let idempotencyKey = requiredName("Idempotency-Key")
    static let lastEventID = requiredName("Last-Event-ID")

    /// A name from a literal of this program.
    static func requiredName(_ name: String) -> HTTPField.Name {
        guard let field = HTTPField.Name(name) else { preconditionFailure("\(name) is no field name") }
        return field
    }
}

/// Gives every request an id, the caller's own where it is harmless, and every response the same.
struct RequestIDMiddleware: RouterMiddleware {
    func handle(
        _ request: Request, context: GatewayContext,
        next: @concurrent (Request, GatewayContext) async throws -> Response
    ) async throws -> Response {
        var context = context
        context.requestID = Self.accepted(request.headers[.requestID]) ?? Self.fresh()
        var response = try await next(request, context)
        response.headers[.requestID] = context.requestID
        // Memories are nobody's to keep or to guess at on the way.
        response.headers[.xContentTypeOptions] = "nosniff"
        if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-store" }
        return response
    }

    /// At most 128 letters, digits and `._-`: it goes into logs and headers.
    private static func accepted(_ id: String?) -> String? {
        guard let id, (1...128).contains(id.utf8.count) else { return nil }
        let isHarmless = id.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || [0x2D, 0x2E, 0x5F].contains(byte)
        }
        return isHarmless ? id : nil
    }

    static func fresh() -> String {
        let bits = [UInt64.random(in: .min ... .max), UInt64.random(in: .min ... .max)]
        return bits.map { bits in
            let text = String(bits, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }.joined()
    }
}
