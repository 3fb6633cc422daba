extension JSONObject {
    /// The object of a request's body.
    ///
    /// - Parameters:
    ///   - bytes: the body.
    ///   - list: the member whose items fail alone, so that NUL in one of them is for its reader to refuse.
    ///   - reserve: asks for room for what is built beyond the body's own size; see ``JSON/ParseLimits``.
    /// - Throws: ``MemoryError`` with `invalid_request`, saying where the text stops being acceptable JSON, or which member
    ///   holds NUL; with `overloaded` when there is no room.
    package init(
        request bytes: [UInt8], list: String? = nil, reserve: ((Int) -> Bool)? = nil
    ) throws(MemoryError) {
        let json: JSON
        let holdsNUL: Bool
        do {
            let limits = JSON.ParseLimits(allowsNUL: true, reserve: reserve)
            (json, holdsNUL) = try JSON.parse(bytes, limits: limits)
        } catch {
            guard !error.isOutOfRoom else { throw .overloaded("Too many large bodies at once, please retry") }
            throw .invalid("The body is not acceptable JSON: \(error.reason) at byte \(error.offset)")
        }
        guard let object = json.object else { throw .invalid("The body must be a JSON object") }
        self = object
        if holdsNUL { try refuseNUL(but: list) }
    }

    /// - Throws: ``MemoryError`` with `invalid_request`, naming the member that holds NUL, which no store keeps.
    func refuseNUL(but list: String? = nil) throws(MemoryError) {
        for member in members where member.key.utf8.contains(0) || member.value.containsNUL {
            if let list, member.key.hasSameBytes(as: list), member.value.array != nil { continue }
            let name = member.key.filter { $0 != "\0" }
            throw .invalid("\(name) must not contain NUL", field: name)
        }
    }
}
