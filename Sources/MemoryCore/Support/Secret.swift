/// Text that must not be seen: every way of printing it gives `<redacted>`.
public struct Secret: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The text itself. Ask for it only where it is handed to a store.
    public let revealed: String

    /// Takes the text.
    public init(_ revealed: String) { self.revealed = revealed }

    /// `<redacted>`.
    public var description: String { "<redacted>" }
    /// `<redacted>`.
    public var debugDescription: String { "<redacted>" }
    /// Nothing to look into.
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}
