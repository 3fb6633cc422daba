import MemoryCore

/// The words that JSON Schema documents are made of.
enum Schema {
    static func ref(_ name: String) -> JSON { ["$ref": .string("#/components/schemas/\(name)")] }

    static func string(_ bounds: ClosedRange<Int>? = nil, _ text: String? = nil) -> JSON {
        var schema: JSONObject = ["type": "string"]
        if let bounds {
            schema["minLength"] = .int(Int64(bounds.lowerBound))
            schema["maxLength"] = .int(Int64(bounds.upperBound))
        }
        schema["description"] = text.map(JSON.string)
        return .object(schema)
    }

    static func integer(_ bounds: ClosedRange<Int64>? = nil) -> JSON {
        var schema: JSONObject = ["type": "integer"]
        if let bounds {
            schema["minimum"] = .int(bounds.lowerBound)
            schema["maximum"] = .int(bounds.upperBound)
        }
        return .object(schema)
    }

    static func number(_ bounds: ClosedRange<Double>? = nil) -> JSON {
        var schema: JSONObject = ["type": "number"]
        if let bounds {
            schema["minimum"] = .double(bounds.lowerBound)
            schema["maximum"] = .double(bounds.upperBound)
        }
        return .object(schema)
    }

    static func choice(_ values: [String]) -> JSON {
        ["type": "string", "enum": .array(values.map(JSON.string))]
    }

    static func choice<Choice: RawRepresentable<String> & CaseIterable>(_ type: Choice.Type) -> JSON {
        choice(type.allCases.map(\.rawValue))
    }

    static func array(_ items: JSON, _ bounds: ClosedRange<Int>? = nil) -> JSON {
        var schema: JSONObject = ["type": "array", "items": items]
        if let bounds {
            schema["minItems"] = .int(Int64(bounds.lowerBound))
            schema["maxItems"] = .int(Int64(bounds.upperBound))
        }
        return .object(schema)
    }

    /// An object with these members, all required but those that `optional` names.
    static func object(
        _ members: KeyValuePairs<String, JSON>, optional: Set<String> = [], example: JSON? = nil
    ) -> JSON {
        var properties = JSONObject()
        for (name, schema) in members { properties[name] = schema }
        var schema: JSONObject = ["type": "object", "properties": .object(properties)]
        let required = members.map(\.key).filter { !optional.contains($0) }
        if !required.isEmpty { schema["required"] = .array(required.map(JSON.string)) }
        schema["example"] = example
        return .object(schema)
    }

    /// What a request brings: as ``object(_:optional:example:)``, and `null` counts as absent.
    static func draft(
        _ members: KeyValuePairs<String, JSON>, optional: Set<String> = [], example: JSON? = nil
    ) -> JSON {
        var schema = object(members, optional: optional, example: example).object ?? JSONObject()
        var properties = JSONObject()
        for (name, own) in members { properties[name] = optional.contains(name) ? nullable(own) : own }
        schema["properties"] = .object(properties)
        return .object(schema)
    }

    static func nullable(_ schema: JSON) -> JSON { ["anyOf": [schema, ["type": "null"]]] }

    /// A list, or a text with commas between, as a query gives it.
    static func list(_ items: JSON) -> JSON { ["anyOf": [array(items), string()]] }

    static let boolean: JSON = ["type": "boolean"]
    static let anyObject: JSON = ["type": "object"]
    static let anything: JSON = .object(JSONObject())
    static let timestamp: JSON = ["type": "string", "format": "date-time"]
    static let clientID = integer(1...Int64(Int32.max))
    static let rowID = integer(1...Int64(Int32.max))
    static let tags = array(string(1...256), 0...64)
    static let stores = array(string())
    static let cursor: JSON = ["type": "string", "pattern": "^[0-9]{1,18}$"]

    /// A page of a list.
    static func page(_ item: String) -> JSON {
        object(["items": array(ref(item)), "next_cursor": nullable(string())])
    }
}
