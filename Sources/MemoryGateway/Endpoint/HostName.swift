/// A host with its port, as they stand in `Host`, `Origin` and `X-Forwarded-For`.
struct HostName: Sendable, Equatable {
    /// What is named, in a form that is the same for the same host.
    enum Host: Sendable, Hashable {
        case address(IPAddress)
        /// In lower case, without the dot at its end.
        case name(String)
    }

    let host: Host
    /// Nil when none is said.
    let port: Int?

    /// Nil for anything but a host and perhaps a port.
    init?(_ text: some StringProtocol) {
        let text = Substring(text)
        guard (1...300).contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            return nil
        }
        var (name, rest) = (text, Substring())
        if text.hasPrefix("[") {
            guard let close = text.firstIndex(of: "]") else { return nil }
            name = text[text.index(after: text.startIndex)..<close]
            rest = text[text.index(after: close)...]
            guard name.contains(":") else { return nil }
        } else if let colon = text.firstIndex(of: ":") {
            (name, rest) = (text[..<colon], text[colon...])
        }
        port = rest.dropFirst().isEmpty ? nil : Self.port(rest.dropFirst())
        guard rest.isEmpty || rest.hasPrefix(":"), rest.count < 2 || port != nil else { return nil }
        if let address = IPAddress(String(name)) {
            host = .address(address)
            return
        }
        if name.hasSuffix(".") { name = name.dropLast() }
        guard !name.isEmpty, name.utf8.allSatisfy(Self.isPartOfName) else { return nil }
        host = .name(name.lowercased())
    }

    private static func port(_ text: Substring) -> Int? {
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = Int(text) else { return nil }
        return (1...65_535).contains(port) ? port : nil
    }

    private static func isPartOfName(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
            || [0x2D, 0x2E, 0x5F].contains(byte)
    }
}
