import Glibc
import Logging
import MemoryCore

/// Logs go to standard error: for a person when it is a terminal, else as JSON lines.
enum GatewayLogging {
    static func bootstrap(level: Logger.Level) {
        LoggingSystem.bootstrap { label in
            var handler = GatewayLogHandler(label: label)
            handler.logLevel = level
            return handler
        }
        // However the program ends by itself, what it said before is to be read; if nobody reads, it ends all the same.
        atexit { LogWriter.standardError.flush(within: .seconds(1)) }
    }
}

/// One line each: for a terminal in words, else a JSON object with `time`, `level`, `logger`, `message`, and the metadata.
struct GatewayLogHandler: LogHandler {
    private static let isTerminal = isatty(STDERR_FILENO) == 1

    let label: String
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]

    init(label: String) { self.label = label }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { _, new in new }
        let pairs = all.map { ($0.key, $0.value.description) }.sorted { $0.0 < $1.0 }
        LogWriter.standardError.write(
            Self.line(level: event.level, label: label, message: event.message.description, pairs))
    }

    /// What is said once there is room again for lines that were dropped.
    static func line(dropped count: Int) -> [UInt8] {
        line(
            level: .warning, label: "memory-gateway", message: "Log lines were dropped: they are read too slowly",
            [(LogKey.count, String(count))])
    }

    private static func line(
        level: Logger.Level, label: String, message: String, _ pairs: [(String, String)]
    ) -> [UInt8] {
        guard !isTerminal else {
            let details = pairs.map { " \($0.0)=\($0.1)" }.joined()
            let text = "\(Timestamp.now) \(level) \(label): \(message)\(details)"
            // What others said must not move the cursor, nor begin a line.
            let shown = text.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }
            return Array(String(String.UnicodeScalarView(shown)).utf8) + [0x0A]
        }
        var writer = JSONWriter()
        writer.beginObject()
        let head = [
            ("time", Timestamp.now.description), ("level", level.rawValue), ("logger", label), ("message", message),
        ]
        for (key, value) in head + pairs {
            writer.key(key)
            writer.string(value)
        }
        writer.endObject()
        return writer.bytes + [0x0A]
    }
}
