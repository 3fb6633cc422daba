import HTTPTypes
import Hummingbird
import Synchronization

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

/// The ids of requests.
enum RequestID {
    /// The caller's own id where it is harmless, else one that was made here.
    static func of(_ request: Request) -> String { accepted(request.headers[.requestID]) ?? fresh() }

    /// At most 128 letters, digits and `._-`: it goes into logs and headers.
    private static func accepted(_ id: String?) -> String? {
        guard let id, (1...128).contains(id.utf8.count) else { return nil }
        let isHarmless = id.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || [0x2D, 0x2E, 0x5F].contains(byte)
        }
        return isHarmless ? id : nil
    }

    /// A number of this process's life, and a counter: one of a kind, and cheap.
    static func fresh() -> String {
        let number = String(count.wrappingAdd(1, ordering: .relaxed).newValue, radix: 16)
        return life + String(repeating: "0", count: 16 - number.count) + number
    }

    private static let count = Atomic<UInt64>(0)
    private static let life: String = {
        let text = String(UInt64.random(in: .min ... .max), radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }()
}
