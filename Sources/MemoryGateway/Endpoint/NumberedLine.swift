/// A line of an import, and where it stands in the file.
struct NumberedLine {
    let number: Int
    let text: [UInt8]

    /// Nil for a blank line, which means nothing but counts.
    init?(number: Int, text: [UInt8]) {
        guard text.contains(where: { ![0x09, 0x0A, 0x0D, 0x20].contains($0) }) else { return nil }
        self.number = number
        self.text = text
    }
}
