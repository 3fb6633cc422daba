/// What a log may say of a reply that was an error: its size, and the words by which servers name kinds of errors. A message
/// may repeat what was sent, which is somebody's memory.
enum ReplySummary {
    static func of(_ body: [UInt8]) -> String {
        var parts = ["\(body.count) bytes"]
        if let json = try? JSON.parse(body) {
            for object in [json, json["error"] ?? .null, json["status"] ?? .null] {
                for key in ["code", "type", "param"] {
                    if let name = object[key].flatMap(name) { parts.append("\(key) \(name)") }
                }
            }
            if let error = json["status"]?["error"]?.string ?? json["error"]?.string { parts.append(beginning(error)) }
        }
        return parts.joined(separator: ", ")
    }

    /// A short word such as `context_length_exceeded`; nil for anything else.
    private static func name(_ value: JSON) -> String? {
        if let number = value.int { return String(number) }
        guard let text = value.string, (1...64).contains(text.utf8.count), text.utf8.allSatisfy(isNameByte) else {
            return nil
        }
        return text
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
            || [0x2D, 0x2E, 0x5F].contains(byte)
    }

    /// A message up to the first thing that it quotes.
    private static func beginning(_ message: String) -> String {
        let quotes: Set<Character> = ["\"", "'", "`", "“", "‘", "«", "{", "["]
        return String(message.prefix { !quotes.contains($0) && $0 != "\n" }.prefix(120))
    }
}
