/// A member of a memory's metadata as one word, which vector stores compare: equal for equal members, no longer for a
/// long value, and never one of a store's own fields, whatever its key.
enum MetadataTerm {
    static func of(_ member: JSONObject.Member) -> String {
        sha256(member.key, canonical(member.value)).prefix(12).hex
    }

    /// Equal text for equal values: numbers by value, keys in order.
    private static func canonical(_ value: JSON) -> String {
        switch value {
        case .double(let number): Int64(exactly: number).map { String($0) } ?? number.description
        case .array(let elements): "[" + elements.map(canonical).joined(separator: ",") + "]"
        case .object(let object):
            "{"
                + object.members.sorted { Array($0.key.utf8).lexicographicallyPrecedes(Array($1.key.utf8)) }
                .map { canonical(.string($0.key)) + ":" + canonical($0.value) }.joined(separator: ",") + "}"
        default: value.encodedText
        }
    }
}
