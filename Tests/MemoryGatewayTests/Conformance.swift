import HTTPTypes

@testable import MemoryCore
@testable import MemoryGateway

/// Compares answers with what the OpenAPI document says of them.
enum Conformance {
    /// What is wrong with an answer; nothing for a path that no endpoint has.
    static func complaints(
        _ reply: TestGateway.Reply, to method: HTTPRequest.Method, _ path: String
    ) -> [String] {
        guard let endpoint = endpoint(method, path) else { return [] }
        let document = JSON.object(Endpoint.document)
        let operation = document["paths"]?[endpoint.path]?[method.rawValue.lowercased()]
        guard let answer = operation?["responses"]?[String(reply.status)] else {
            return ["the status is not described"]
        }
        guard let content = answer["content"]?.object?.members.first else {
            return reply.text.isEmpty ? [] : ["a body that is not described"]
        }
        guard reply.headers[.contentType]?.hasPrefix(content.key) == true else {
            return ["the type \(reply.headers[.contentType] ?? "none") instead of \(content.key)"]
        }
        guard content.key == "application/json" else { return [] }
        return complaints(reply.json, content.value["schema"] ?? .null, document, at: "body")
    }

    private static func endpoint(_ method: HTTPRequest.Method, _ path: String) -> Endpoint? {
        let parts = path.prefix { $0 != "?" }.split(separator: "/")
        let fitting = Endpoint.all.filter { endpoint in
            let own = endpoint.path.split(separator: "/")
            return endpoint.method == method && own.count == parts.count
                && zip(own, parts).allSatisfy { $0.hasPrefix("{") || $0 == $1 }
        }
        // A fixed path goes before one with parameters.
        return fitting.min { $0.path.count { $0 == "{" } < $1.path.count { $0 == "{" } }
    }

    /// What of a value does not fit a schema: as much of JSON Schema as our document uses.
    static func complaints(_ value: JSON, _ schema: JSON, _ document: JSON, at place: String) -> [String] {
        if let reference = schema["$ref"]?.string {
            let name = reference.split(separator: "/").last.map(String.init) ?? ""
            guard let target = document["components"]?["schemas"]?[name] else { return ["no schema \(name)"] }
            return complaints(value, target, document, at: place)
        }
        if let options = schema["anyOf"]?.array {
            let fits = options.contains { complaints(value, $0, document, at: place).isEmpty }
            return fits ? [] : ["\(place) fits none of what is allowed"]
        }
        let types = schema["type"]?.array?.compactMap(\.string) ?? schema["type"]?.string.map { [$0] } ?? []
        guard types.isEmpty || types.contains(where: { value.has(type: $0) }) else {
            return ["\(place) is not \(types.joined(separator: " or "))"]
        }
        if let choices = schema["enum"]?.array, !choices.contains(value) { return ["\(place) is none of the choices"] }
        if let number = value.double {
            if let least = schema["minimum"]?.double, number < least { return ["\(place) is below \(least)"] }
            if let most = schema["maximum"]?.double, number > most { return ["\(place) is above \(most)"] }
        }
        if schema["format"] == "date-time", value.string.flatMap({ Timestamp($0) }) == nil {
            return ["\(place) is no timestamp"]
        }
        if let items = schema["items"], let array = value.array {
            return array.flatMap { complaints($0, items, document, at: place + "[]") }
        }
        guard let object = value.object else { return [] }
        var found = (schema["required"]?.array ?? []).compactMap(\.string).filter { object[$0] == nil }
            .map { "\(place).\($0) is missing" }
        for member in object.members {
            guard let own = schema["properties"]?[member.key] ?? schema["additionalProperties"] else {
                if schema["properties"] != nil { found.append("\(place).\(member.key) is not described") }
                continue
            }
            found += complaints(member.value, own, document, at: "\(place).\(member.key)")
        }
        return found
    }
}

extension JSON {
    fileprivate func has(type: String) -> Bool {
        switch type {
        case "object": object != nil
        case "array": array != nil
        case "string": string != nil
        case "integer": int != nil
        case "number": double != nil
        case "boolean": bool != nil
        default: self == .null
        }
    }
}
