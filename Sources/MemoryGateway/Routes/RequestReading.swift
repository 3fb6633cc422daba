import HTTPTypes
import Hummingbird
import MemoryCore
import NIOCore

extension Request {
    /// The body as a JSON object.
    ///
    /// - Throws: 415 for another type or a compressed body, 413 for one over the limit, 400 for malformed JSON.
    func jsonObject(maxBytes: Int = 1 << 20) async throws -> JSONObject {
        let type = headers[.contentType]?.split(separator: ";").first.map { $0.lowercased() }
        guard type?.filter({ $0 != " " }) == "application/json", isPlain else {
            throw HTTPError(.unsupportedMediaType)
        }
        if let length = headers[.contentLength].flatMap(Int.init), length > maxBytes {
            throw HTTPError(.contentTooLarge)
        }
        let buffer = try await body.collect(upTo: maxBytes)
        return try JSONObject(request: Array(buffer.readableBytesView))
    }

    private var isPlain: Bool {
        headers[.contentEncoding].map { $0.lowercased() == "identity" } ?? true
    }

    /// The query parameters as the fields of an object. `client_id`, `k` and `min_score` become numbers where they are
    /// ones; a parameter that comes twice is an error, as a repeated key is.
    func queryObject() throws(MemoryError) -> JSONObject {
        var object = JSONObject()
        for pair in (uri.query ?? "").split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = parts[0].percentDecoded, let value = (parts.count > 1 ? parts[1] : "").percentDecoded
            else {
                throw MemoryError(invalid: "The query is not percent-encoded UTF-8")
            }
            guard object[name] == nil else { throw MemoryError(invalid: "\(name) is given twice", field: name) }
            object[name] = ["client_id", "k", "min_score"].contains(name) ? Self.number(value) : .string(value)
        }
        return object
    }

    private static func number(_ text: String) -> JSON {
        if let value = Int64(text) { return .int(value) }
        if let value = Double(text), value.isFinite { return .double(value) }
        return .string(text)
    }
}

extension Substring {
    /// The text that was percent-encoded, with `+` for a space; nil when it is none, or not UTF-8.
    fileprivate var percentDecoded: String? {
        var bytes: [UInt8] = []
        var rest = utf8[...]
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "+"): bytes.append(0x20)
            case UInt8(ascii: "%"):
                guard let high = rest.popFirst(), let low = rest.popFirst(),
                    let first = Character(Unicode.Scalar(high)).hexDigitValue,
                    let second = Character(Unicode.Scalar(low)).hexDigitValue
                else { return nil }
                bytes.append(UInt8(first << 4 | second))
            default: bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }
}
