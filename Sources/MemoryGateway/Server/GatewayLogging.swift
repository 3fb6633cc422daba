import Glibc
import Logging
import MemoryCore

/// Logs go to standard error: for a person when it is a terminal, else as JSON lines.
enum GatewayLogging {
    static func bootstrap(level: Logger.Level) {
        let isTerminal = isatty(STDERR_FILENO) == 1
        LoggingSystem.bootstrap { label in
            var handler: any LogHandler =
                isTerminal ? StreamLogHandler.standardError(label: label) : JSONLogHandler(label: label)
            handler.logLevel = level
            return handler
        }
    }
}

/// One JSON object a line: `time`, `level`, `logger`, `message`, and the metadata.
struct JSONLogHandler: LogHandler {
    let label: String
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]

    init(label: String) { self.label = label }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var writer = JSONWriter()
        writer.beginObject()
        for (key, value) in [
            ("time", Timestamp.now.description), ("level", event.level.rawValue), ("logger", label),
            ("message", event.message.description),
        ] {
            writer.key(key)
            writer.string(value)
        }
        let all = metadata.merging(event.metadata ?? [:]) { _, new in new }
        for (key, value) in all.sorted(by: { $0.key < $1.key }) {
            writer.key(key)
            writer.string(value.description)
        }
        writer.endObject()
        let line = writer.bytes + [0x0A]
        // One write a line keeps lines whole when several threads log.
        _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
