import HTTPTypes
import Hummingbird
import MemoryCore
import NIOCore

extension Request {
    /// - Throws: 415 for another type or a compressed body.
    func requireType(_ wanted: String) throws {
        let type = headers[.contentType]?.split(separator: ";").first.map { $0.lowercased() }
        let isPlain = headers[.contentEncoding].map { $0.lowercased() == "identity" } ?? true
        guard type?.filter({ $0 != " " }) == wanted, isPlain else { throw HTTPError(.unsupportedMediaType) }
    }

    /// The query parameters as the fields of an object, numbers where the endpoint wants numbers; a parameter that comes
    /// twice is an error, as a repeated key is.
    func queryObject(_ fields: [Endpoint.Reading.Field]) throws(MemoryError) -> JSONObject {
        var object = JSONObject()
        for pair in (uri.query ?? "").split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = parts[0].percentDecoded(plusIsSpace: true),
                let value = (parts.count > 1 ? parts[1] : "").percentDecoded(plusIsSpace: true)
            else {
                throw MemoryError(invalid: "The query is not percent-encoded UTF-8")
            }
            guard !value.utf8.contains(0) else {
                throw MemoryError(invalid: "\(name) must not contain NUL", field: name)
            }
            guard object[name] == nil else { throw MemoryError(invalid: "\(name) is given twice", field: name) }
            let field = fields.first { $0.name == name }
            object[name] = try field?.value(value) ?? .string(value)
        }
        return object
    }

    static func number(_ text: String) -> JSON {
        // Swift reads hexadecimal numbers too; JSON has none.
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) || [0x2B, 0x2D, 0x2E, 0x45, 0x65].contains($0) }) else {
            return .string(text)
        }
        if let value = Int64(text) { return .int(value) }
        if let value = Double(text), value.isFinite { return .double(value) }
        return .string(text)
    }
}

extension Endpoint.Reading.Field {
    /// The field's value.
    ///
    /// - Throws: 400 for a text that is shorter or longer than the parameter's schema says.
    func value(_ text: String) throws(MemoryError) -> JSON {
        if let length, !length.contains(Int64(text.unicodeScalars.count)) {
            throw MemoryError(
                invalid: "\(name) must be \(length.lowerBound) to \(length.upperBound) characters", field: name)
        }
        return isNumber ? Request.number(text) : .string(text)
    }
}

extension Substring {
    /// The text that was percent-encoded; nil when it is none, or not UTF-8.
    func percentDecoded(plusIsSpace: Bool) -> String? {
        var bytes: [UInt8] = []
        var rest = utf8[...]
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "+") where plusIsSpace: bytes.append(0x20)
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
