import Logging
import Synchronization

/// Says of something that fails when that begins, once a minute how often it failed since, and when it is over: three lines,
/// not one for each call.
///
/// One call of a store that came too late is no outage: it is one when nothing has succeeded for a second. What fails and recovers
/// again and again is said once a minute, unless it lasts.
final class Outage: Sendable {
    private struct State {
        /// Since when nothing has succeeded.
        var failsSince: ContinuousClock.Instant?
        /// Since when it is known to the log that it fails; nil while it is not.
        var saidSince: ContinuousClock.Instant?
        /// Reading may succeed where writing fails, as on a full disk: then only a write ends it.
        var isOfWrites = false
        /// Failures since the last line.
        var count = 0
        var lastLine: ContinuousClock.Instant?
    }

    /// What one call of ``failed(_:writing:)`` or ``succeeded(writing:)`` has to say.
    private enum Line { case begins, goesOn(count: Int), ends(after: Duration, count: Int) }

    private static let interval: Duration = .seconds(60)
    /// What has failed for so long is said, however little time has passed since the last line.
    private static let longestPatience: Duration = .seconds(5)

    /// What is said of the subject when it begins, while it lasts, and when it is over.
    private typealias Words = (begins: String, goesOn: String, ends: String)

    private let subject: String
    private let words: Words
    /// For how long nothing must have succeeded before it is said.
    private let patience: Duration
    private let level: Logger.Level
    private let logger: Logger
    private let surroundings: any Surroundings
    private let state = Mutex(State())
    /// Whether anything failed since the last success: all that a success has to look at.
    private let isFailing = Atomic(false)

    private init(
        _ subject: String, words: Words, patience: Duration, level: Logger.Level, logger: Logger,
        surroundings: any Surroundings
    ) {
        self.subject = subject
        self.words = words
        self.patience = patience
        self.level = level
        self.logger = logger
        self.surroundings = surroundings
    }

    /// Of work that goes on by itself; `work` is its name, as the beginning of a sentence.
    convenience init(
        _ work: String, level: Logger.Level = .warning, logger: Logger,
        surroundings: any Surroundings = SystemSurroundings()
    ) {
        self.init(
            work, words: ("fails", "still fails", "works again"), patience: .zero, level: level, logger: logger,
            surroundings: surroundings)
    }

    /// Of a store.
    convenience init(
        of store: MemoryError.Store, logger: Logger, surroundings: any Surroundings = SystemSurroundings()
    ) {
        self.init(
            store.description, words: ("is away", "is still away", "is back"), patience: .seconds(1),
            level: .warning, logger: logger, surroundings: surroundings)
    }

    /// Notes a failure.
    func failed(_ error: MemoryError, writing: Bool = false) {
        let now = surroundings.instant
        isFailing.store(true, ordering: .relaxed)
        let line = state.withLock { state -> Line? in
            state.count += 1
            state.isOfWrites = state.isOfWrites || writing
            let since = state.failsSince ?? now
            state.failsSince = since
            let isRecent = state.lastLine.map { now - $0 < Self.interval } ?? false
            if state.saidSince == nil {
                guard now - since >= (isRecent ? Self.longestPatience : patience) else { return nil }
                state.saidSince = since
                state.lastLine = now
                return .begins
            }
            guard !isRecent else { return nil }
            defer { (state.count, state.lastLine) = (0, now) }
            return .goesOn(count: state.count)
        }
        if let line { say(line, error) }
    }

    /// Notes a success.
    func succeeded(writing: Bool = true) {
        guard isFailing.load(ordering: .relaxed) else { return }
        let now = surroundings.instant
        let line = state.withLock { state -> Line? in
            guard writing || !state.isOfWrites else { return nil }
            isFailing.store(false, ordering: .relaxed)
            defer { (state.failsSince, state.saidSince, state.isOfWrites) = (nil, nil, false) }
            guard let since = state.saidSince else { return nil }
            defer { (state.count, state.lastLine) = (0, now) }
            return .ends(after: now - since, count: state.count)
        }
        if let line { say(line, nil) }
    }

    private func say(_ line: Line, _ error: MemoryError?) {
        var metadata: Logger.Metadata = [:]
        if let error { metadata[LogKey.error] = "\(error.debugDescription)" }
        switch line {
        case .begins: logger.log(level: level, "\(subject) \(words.begins)", metadata: metadata)
        case .goesOn(let count):
            metadata[LogKey.count] = "\(count)"
            logger.log(level: level, "\(subject) \(words.goesOn)", metadata: metadata)
        case .ends(let duration, let count):
            metadata[LogKey.count] = "\(count)"
            metadata[LogKey.seconds] = "\(Int(duration.milliseconds / 1000))"
            logger.notice("\(subject) \(words.ends)", metadata: metadata)
        }
    }
}

extension Outage {
    /// One that nobody hears of.
    static let silent = Outage("", logger: Logger(label: "memory") { _ in SwiftLogNoOpLogHandler() })
}
