/// Tries the addresses of a cluster one beside the other, because one that accepts and then says nothing would keep libpq
/// from the next for ever.
struct PostgresRace {
    let configuration: PostgresConfiguration
    let hosts: [PostgresHost]
    /// The highest timeline that was seen; nil at the start.
    let seen: PostgresGreeting.History?
    /// Whether a server that takes no writes is better than none.
    let acceptsReadOnly: Bool

    /// How long one address is waited for before the next is tried as well.
    private static let headStart: Duration = .milliseconds(100)
    /// How long the others are waited for when nobody knows yet which timeline is the last.
    private static let firstLook: Duration = .milliseconds(200)

    /// The first primary that is not older than what was seen; at the start the one with the highest timeline.
    func run(deadline: Deadline) throws(MemoryError) -> PostgresAttempt {
        var waiting = hosts[...]
        var running: [PostgresAttempt] = []
        var best: PostgresAttempt?
        var readOnly: PostgresAttempt?
        var failure = MemoryError.timeout(.postgres, "no answer before the deadline")
        let isFirst = seen == nil && hosts.count > 1
        let look = Deadline.after(Self.firstLook)
        var next = Deadline.after(.zero)
        while true {
            while let host = waiting.first, isFirst || running.isEmpty || next.hasPassed {
                waiting.removeFirst()
                running.append(PostgresAttempt(host, configuration))
                next = .after(Self.headStart)
            }
            let isOver = running.isEmpty && waiting.isEmpty
            if let best, isOver || !isFirst || look.hasPassed || deadline.hasPassed { return best }
            if isOver || deadline.hasPassed {
                if let readOnly, acceptsReadOnly { return readOnly }
                if failure.code == .timeout { failure.isOwnDelay = deadline.wasHeldUp }
                throw readOnly == nil ? failure : Self.noPrimary
            }
            var limit = deadline
            if best != nil { limit = min(limit, look) }
            if !waiting.isEmpty { limit = min(limit, next) }
            for attempt in try PostgresAttempt.ready(running, limit) {
                attempt.advance()
                guard let end = attempt.end else { continue }
                running.removeAll { $0 === attempt }
                switch end {
                case .failure(let error): failure = error
                case .success(let greeting) where greeting.isReadOnly: readOnly = readOnly ?? attempt
                case .success(let greeting) where greeting.isOlder(than: seen): failure = PostgresCluster.older
                case .success(let greeting): if best?.isBefore(greeting) ?? true { best = attempt }
                }
                if best !== attempt { next = .after(.zero) }
            }
        }
    }

    private static let noPrimary = MemoryError.unavailable(
        .postgres, "every host that answers takes no writes", driverCode: MemoryError.readOnlyCode)
}

/// One try to reach an address, which never waits: it goes on when its socket is ready.
final class PostgresAttempt {
    let host: PostgresHost
    /// What the server said, or why there is nothing; nil while nobody knows.
    private(set) var end: Result<PostgresGreeting, MemoryError>?
    private var handle: PostgresHandle?
    private var events: Int16 = 0
    private var step = Step.connecting
    private var answer: PostgresResult?

    private enum Step { case connecting, asking, askingLess }

    init(_ host: PostgresHost, _ configuration: PostgresConfiguration) {
        self.host = host
        do throws(MemoryError) {
            let begun = try PostgresHandle.begin(configuration, at: host)
            events = PostgresHandle.writable
            handle = consume begun
        } catch {
            end = .failure(error)
        }
    }

    /// The connection, which is the caller's from now on.
    func take() -> PostgresHandle? { handle.take() }

    /// Those of a list that can go on; none when the time is over.
    static func ready(
        _ attempts: [PostgresAttempt], _ deadline: Deadline
    ) throws(MemoryError) -> [PostgresAttempt] {
        let over = attempts.filter { $0.end != nil }
        guard over.isEmpty else { return over }
        let ready = try PostgresHandle.ready(attempts.map { ($0.handle?.socket ?? -1, $0.events) }, deadline)
        return zip(attempts, ready).filter { $0.1 }.map(\.0)
    }

    func advance() {
        guard end == nil else { return }
        do throws(MemoryError) {
            if let greeting = try proceed() { end = .success(greeting) }
        } catch {
            end = .failure(error)
        }
        if case .failure = end { handle = nil }
    }

    private func proceed() throws(MemoryError) -> PostgresGreeting? {
        guard step == .connecting else { return try listen() }
        if let wait = try handle?.connectStep() {
            events = wait
        } else {
            try ask(PostgresGreeting.question, .asking)
        }
        return nil
    }

    private func ask(_ question: String, _ step: Step) throws(MemoryError) {
        self.step = step
        answer = nil
        try handle?.send(question)
        events = PostgresHandle.readable
    }

    private func listen() throws(MemoryError) -> PostgresGreeting? {
        do throws(MemoryError) {
            guard try handle?.receive(&answer) == true, let answer else { return nil }
            return try PostgresGreeting(answer)
        } catch {
            guard step == .asking, handle?.isUsable == true else { throw error }
            try ask(PostgresGreeting.shortQuestion, .askingLess)
            return nil
        }
    }

    /// Whether another server has followed this one.
    fileprivate func isBefore(_ other: PostgresGreeting) -> Bool {
        guard case .success(let own) = end else { return true }
        return own.isOlder(than: other.history)
    }
}
