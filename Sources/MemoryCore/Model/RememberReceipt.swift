/// What became of a memory that was stored.
public struct RememberReceipt: Sendable {
    /// The memory's id.
    public let memoryID: Int64
    /// Whose it is.
    public let clientID: Int
    /// The stores that have it. The primary store always does.
    public var storedIn: [MemoryError.Store]
    /// The stores that could not take it now. The outbox delivers it to them later; nothing is lost.
    public var failed: [MemoryError.Store]
    /// When it was stored.
    public let createdAt: Timestamp

    /// What to tell people about ``failed``; nil when nothing did.
    public var warning: String? {
        if failed.contains(.qdrant) || failed.contains(.embeddedVectors) {
            return "Vector storage failed, will retry in background"
        }
        return failed.isEmpty ? nil : "Cache storage failed, will retry in background"
    }

    /// Writes the receipt as an object of the HTTP contract.
    package func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("memory_id")
        writer.int(memoryID)
        writer.key("client_id")
        writer.int(clientID)
        writer.key("stored_in")
        writer.strings(storedIn.map(\.description))
        if let warning {
            writer.key("failed")
            writer.strings(failed.map(\.description))
            writer.key("warning")
            writer.string(warning)
        }
        writer.key("created_at")
        writer.string(createdAt.description)
        writer.endObject()
    }
}
