package import Logging

/// A logger whose lines a test reads.
package final class RecordedLog: Sendable {
    /// What was said at its level and above.
    package struct Line: Sendable {
        package let level: Logger.Level
        package let message: String
        package let metadata: [String: String]
    }

    private let recorded = Shared<[Line]>([])

    private let level: Logger.Level

    package init(level: Logger.Level = .info) { self.level = level }

    /// The lines so far.
    package var lines: [Line] { recorded.value }

    /// The logger that records them.
    package var logger: Logger {
        Logger(label: "test") { [recorded, level] _ in Handler(recorded: recorded, logLevel: level) }
    }

    private struct Handler: LogHandler {
        let recorded: Shared<[Line]>
        var logLevel: Logger.Level
        var metadata: Logger.Metadata = [:]

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let metadata = (event.metadata ?? [:]).mapValues(\.description)
            recorded.withLock {
                $0.append(Line(level: event.level, message: event.message.description, metadata: metadata))
            }
        }
    }
}
