package import Logging

/// A logger whose lines a test reads.
package struct CapturedLog: Sendable {
    /// What was logged at once.
    package struct Line: Sendable {
        package let level: Logger.Level
        package let message: String
        package let metadata: [String: String]
    }

    private let collected = Shared<[Line]>([])

    package init() {}

    package var lines: [Line] { collected.value }

    package var logger: Logger { Logger(label: "test") { _ in Handler(collected: collected) } }

    private struct Handler: LogHandler {
        let collected: Shared<[Line]>
        var logLevel = Logger.Level.trace
        var metadata: Logger.Metadata = [:]

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let line = Line(
                level: event.level, message: event.message.description,
                metadata: (event.metadata ?? [:]).mapValues(\.description))
            collected.withLock { $0.append(line) }
        }
    }
}
