/// Reads the fields of a request, with errors that name the field and say what it should be. `null` counts as absent.
package struct FieldReader {
    package let object: JSONObject

    package init(_ object: JSONObject) { self.object = object }

    package subscript(name: String) -> JSON? {
        guard let value = object[name] else { return nil }
        if case .null = value { return nil }
        return value
    }

    package func required(_ name: String) throws(MemoryError) -> JSON {
        guard let value = self[name] else { throw .invalid("\(name) is required", field: name) }
        return value
    }

    package func string(_ name: String) throws(MemoryError) -> String? {
        try read(name, "a string", \.string)
    }

    package func requiredString(_ name: String) throws(MemoryError) -> String {
        _ = try required(name)
        return try string(name) ?? ""
    }

    package func int(_ name: String) throws(MemoryError) -> Int? {
        try read(name, "an integer") { $0.int.flatMap { Int(exactly: $0) } }
    }

    package func requiredInt(_ name: String) throws(MemoryError) -> Int {
        _ = try required(name)
        return try int(name) ?? 0
    }

    package func double(_ name: String) throws(MemoryError) -> Double? {
        try read(name, "a number", \.double)
    }

    package func object(_ name: String) throws(MemoryError) -> JSONObject? {
        try read(name, "an object", \.object)
    }

    package func timestamp(_ name: String) throws(MemoryError) -> Timestamp? {
        try read(name, "an RFC 3339 timestamp") { $0.string.flatMap { Timestamp($0) } }
    }

    /// A list of strings; a text is one with commas between.
    package func strings(_ name: String) throws(MemoryError) -> [String]? {
        try read(name, "a list of strings") { value in
            if let text = value.string { return text.split(separator: ",").map(String.init) }
            guard let elements = value.array else { return nil }
            let strings = elements.compactMap(\.string)
            return strings.count == elements.count ? strings : nil
        }
    }

    /// A list of values of a closed set.
    package func choices<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ type: Choice.Type
    ) throws(MemoryError) -> [Choice]? {
        guard let texts = try strings(name) else { return nil }
        var choices: [Choice] = []
        for text in texts { choices.append(try Self.choice(name, text)) }
        return choices
    }

    package func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ type: Choice.Type
    ) throws(MemoryError) -> Choice? {
        guard let text = try string(name) else { return nil }
        return try Self.choice(name, text)
    }

    private static func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ text: String
    ) throws(MemoryError) -> Choice {
        if let choice = Choice(rawValue: text) { return choice }
        let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        throw .invalid("\(name) must be one of \(known)", field: name)
    }

    private func read<Value>(
        _ name: String, _ kind: String, _ convert: (JSON) -> Value?
    ) throws(MemoryError) -> Value? {
        guard let json = self[name] else { return nil }
        guard let value = convert(json) else { throw .invalid("\(name) must be \(kind)", field: name) }
        return value
    }
}

extension MemoryError {
    /// An error of a request that never reached the memory.
    package init(invalid message: String, field: String? = nil) { self = .invalid(message, field: field) }
}
