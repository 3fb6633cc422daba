/// How much waits on a connection.
struct ValkeyLoad: Sendable {
    private(set) var commands = 0
    private(set) var bytes = 0

    init() {}

    init(_ commands: [ValkeyCommand]) {
        self.commands = commands.count
        for command in commands { for word in command { bytes += word.count } }
    }

    mutating func add(_ other: ValkeyLoad) {
        commands += other.commands
        bytes += other.bytes
    }

    mutating func subtract(_ other: ValkeyLoad) {
        commands -= other.commands
        bytes -= other.bytes
    }
}

/// The replies that a connection owes, in the order of what was sent. A call whose time is over goes on without its reply,
/// which is read and dropped when it comes. It belongs to the connection's thread.
struct ValkeyPipeline {
    private struct Owed {
        /// Nil of what the pipeline asks by itself.
        let call: ValkeyConnection.Call?
        let sentAt: Int64
        var replies: [ValkeyReply] = []
        /// When the connection is given up, once nobody waits for this reply any more; nil while its caller waits.
        var limit: Deadline?
    }

    /// How long a reply is owed before the connection is given up.
    private static let patience: Duration = .seconds(1)
    /// Whoever had less time than this for an answer says nothing of the server.
    private static let fairTime: Int64 = 15_000_000

    private(set) var identity: ValkeyIdentity
    private var owed: [Owed] = []
    /// How many of them have ended while replies are being taken.
    private var head = 0
    private var settled = ValkeyLoad()

    init(_ identity: ValkeyIdentity) { self.identity = identity }

    var isEmpty: Bool { head == owed.count }

    /// What no longer waits since this was asked last.
    mutating func takeSettled() -> ValkeyLoad {
        defer { settled = ValkeyLoad() }
        return settled
    }

    /// Hands commands to the connection, and notes who waits for their replies.
    mutating func send(_ calls: [ValkeyConnection.Call], on handle: borrowing ValkeyHandle) throws(MemoryError) {
        let now = Pulse.now
        let first = owed.count
        let question = calls.isEmpty ? nil : identity.takeQuestion()
        if question != nil { owed.append(Owed(call: nil, sentAt: now, limit: .after(Self.patience))) }
        for call in calls {
            if call.deadline.hasPassed {
                finish(call, .failure(.waited(for: .valkey)))
            } else {
                owed.append(Owed(call: call, sentAt: now))
            }
        }
        // All of them are noted by now: should the connection fail here, they fail with it.
        for place in first..<owed.count {
            for command in owed[place].call?.commands ?? question.map({ [$0] }) ?? [] { try handle.append(command) }
        }
    }

    /// Takes the replies that have come in, and lets their callers go on.
    ///
    /// - Returns: whether there were any.
    mutating func receive(from handle: borrowing ValkeyHandle) throws(MemoryError) -> Bool {
        var isHeard = false
        while !isEmpty, let reply = try handle.nextBuffered() {
            isHeard = true
            owed[head].replies.append(reply)
            guard owed[head].replies.count == owed[head].call?.commands.count ?? 1 else { continue }
            let entry = owed[head]
            head += 1
            guard let call = entry.call else {
                try identity.hear(entry.replies[0])
                continue
            }
            if entry.limit == nil {
                finish(call, .success(ValkeyConnection.Replies(replies: entry.replies, epoch: identity.epoch)))
            } else {
                settle(call)
            }
        }
        if isEmpty, try handle.nextBuffered() != nil {
            throw .badReply(.valkey, "a reply that nobody asked for")
        }
        if head > 0 {
            owed.removeFirst(head)
            head = 0
        }
        return isHeard
    }

    /// Lets those go on whose time is over.
    ///
    /// - Returns: whether the server had its time to answer one of them.
    /// - Throws: ``MemoryError`` with `timeout` when a reply that nobody waits for is owed for too long.
    mutating func expire() throws(MemoryError) -> Bool {
        let now = Pulse.now
        var isLate = false
        for place in owed.indices {
            let age = now - owed[place].sentAt
            if let limit = owed[place].limit {
                guard !limit.hasPassed else { throw .timeout(.valkey, "a reply is owed for too long") }
            } else if let call = owed[place].call, call.deadline.hasPassed {
                let isFair = age >= Self.fairTime && !call.deadline.wasHeldUp
                owed[place].limit = .after(Self.patience - .nanoseconds(age))
                var error = MemoryError.timeout(.valkey, "no answer before the deadline")
                error.isOwnDelay = !isFair
                call.done.resume(returning: .failure(error))
                isLate = isLate || isFair
            }
        }
        return isLate
    }

    /// Fails everyone who waits: the connection is lost.
    mutating func fail(_ error: MemoryError) {
        for entry in owed[head...] where entry.limit == nil { entry.call?.done.resume(returning: .failure(error)) }
        owed = []
        head = 0
    }

    private mutating func finish(
        _ call: ValkeyConnection.Call, _ result: Result<ValkeyConnection.Replies, MemoryError>
    ) {
        settle(call)
        call.done.resume(returning: result)
    }

    private mutating func settle(_ call: ValkeyConnection.Call) { settled.add(call.load) }
}
