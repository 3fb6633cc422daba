import CHiredis
import Glibc

/// A command: its name and arguments, each with its length, so that no byte of data can end one.
typealias ValkeyCommand = [[UInt8]]

/// What the server answered to one command.
enum ValkeyReply: Sendable {
    case null
    case bytes([UInt8])
    case int(Int64)
    case array([ValkeyReply])
    case error(String)
}

/// The one owner of a hiredis connection, in non-blocking mode: every wait ends at a deadline.
///
/// Everything that touches hiredis' pointers is here. A handle belongs to one thread.
@safe struct ValkeyHandle: ~Copyable {
    private let context: UnsafeMutablePointer<redisContext>

    /// The most that may wait unread, as a guard against a server that never ends a reply.
    private static let maxUnread = 64 << 20

    deinit { unsafe redisFree(context) }

    static func open(host: String, port: Int, deadline: Deadline) throws(MemoryError) -> ValkeyHandle {
        let addresses = try NameResolver.shared.addresses(of: host, for: .valkey, deadline: deadline)
        // As hiredis does by itself: addresses of the fourth version first.
        let address = addresses.first { !$0.contains(":") } ?? addresses.first ?? host
        guard let context = unsafe redisConnectNonBlock(address, Int32(clamping: port)) else {
            throw .unavailable(.valkey, "hiredis has no memory for a connection")
        }
        let handle = unsafe ValkeyHandle(takingOwnershipOf: context)
        guard unsafe context.pointee.err == 0 else { throw handle.lost() }
        try handle.wait(Int16(POLLOUT), deadline)
        var status: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        guard unsafe getsockopt(context.pointee.fd, SOL_SOCKET, SO_ERROR, &status, &size) == 0, status == 0 else {
            throw .unavailable(.valkey, unsafe String(cString: strerror(status)), driverCode: "connect")
        }
        var on: Int32 = 1
        unsafe setsockopt(context.pointee.fd, Int32(IPPROTO_TCP), TCP_NODELAY, &on, size)
        unsafe setsockopt(context.pointee.fd, SOL_SOCKET, SO_KEEPALIVE, &on, size)
        return handle
    }

    private init(takingOwnershipOf context: UnsafeMutablePointer<redisContext>) { unsafe self.context = context }

    private func lost() -> MemoryError {
        .unavailable(.valkey, unsafe String(cString: mg_redis_error(context)), driverCode: "connection")
    }

    private func wait(_ events: Int16, _ deadline: Deadline) throws(MemoryError) {
        while true {
            var descriptor = unsafe pollfd(fd: context.pointee.fd, events: events, revents: 0)
            let ready = unsafe poll(&descriptor, 1, deadline.remainingMilliseconds)
            if ready > 0 { return }
            if ready == 0 {
                guard deadline.hasPassed else { continue }
                throw .timeout(.valkey, "no answer before the deadline")
            }
            guard errno == EINTR else { throw .unavailable(.valkey, "poll: \(errno)") }
        }
    }

    /// Sends commands in one go, and reads a reply for each. After an error the connection must not be used again: a late
    /// reply could be taken for another command's.
    func run(_ commands: [ValkeyCommand], deadline: Deadline) throws(MemoryError) -> [ValkeyReply] {
        for command in commands { try append(command) }
        try send(deadline)
        var replies: [ValkeyReply] = []
        replies.reserveCapacity(commands.count)
        while replies.count < commands.count {
            if let reply = try nextBuffered() {
                replies.append(reply)
                continue
            }
            try wait(Int16(POLLIN), deadline)
            guard unsafe redisBufferRead(context) == REDIS_OK else { throw lost() }
            guard unsafe context.pointee.reader.pointee.len < Self.maxUnread else {
                throw .badReply(.valkey, "a reply of more than \(Self.maxUnread) bytes")
            }
        }
        return replies
    }

    /// Sends what is left to send, as far as the server takes it, and reads what it has sent, waiting for so long at most.
    ///
    /// - Returns: whether the server did anything.
    func exchange(within milliseconds: Int32) throws(MemoryError) -> Bool {
        var done: Int32 = 0
        guard unsafe redisBufferWrite(context, &done) == REDIS_OK else { throw lost() }
        let events = Int16(done == 1 ? POLLIN : POLLIN | POLLOUT)
        var descriptor = unsafe pollfd(fd: context.pointee.fd, events: events, revents: 0)
        let ready = unsafe poll(&descriptor, 1, milliseconds)
        guard ready >= 0 || errno == EINTR else { throw .unavailable(.valkey, "poll: \(errno)") }
        guard ready > 0 else { return false }
        if descriptor.revents & ~Int16(POLLOUT) != 0 {
            guard unsafe redisBufferRead(context) == REDIS_OK else { throw lost() }
            guard unsafe context.pointee.reader.pointee.len < Self.maxUnread else {
                throw .badReply(.valkey, "a reply of more than \(Self.maxUnread) bytes")
            }
        }
        return true
    }

    /// The next message that the server sends by itself; nil when there was none within the time.
    func next(within duration: Duration) throws(MemoryError) -> ValkeyReply? {
        if let reply = try nextBuffered() { return reply }
        do throws(MemoryError) {
            try wait(Int16(POLLIN), .after(duration))
        } catch {
            guard error.code == .timeout else { throw error }
            return nil
        }
        guard unsafe redisBufferRead(context) == REDIS_OK else { throw lost() }
        return try nextBuffered()
    }

    /// Takes a command that ``exchange(within:)`` sends.
    func append(_ command: ValkeyCommand) throws(MemoryError) {
        // One block for all arguments; hiredis copies it before this returns.
        let bytes = command.flatMap { $0 }
        let lengths = command.map(\.count)
        let status = unsafe bytes.withUnsafeBufferPointer { buffer in
            var offset = 0
            var arguments = unsafe lengths.map { length -> UnsafePointer<CChar>? in
                defer { offset += length }
                return unsafe buffer.baseAddress.map { base in
                    unsafe UnsafeRawPointer(base + offset).assumingMemoryBound(to: CChar.self)
                }
            }
            return unsafe redisAppendCommandArgv(context, Int32(clamping: lengths.count), &arguments, lengths)
        }
        guard status == REDIS_OK else { throw lost() }
    }

    private func send(_ deadline: Deadline) throws(MemoryError) {
        var done: Int32 = 0
        while true {
            guard unsafe redisBufferWrite(context, &done) == REDIS_OK else { throw lost() }
            if done == 1 { return }
            // The server may be waiting for us to read before it reads more.
            try wait(Int16(POLLOUT | POLLIN), deadline)
            guard unsafe redisBufferRead(context) == REDIS_OK else { throw lost() }
        }
    }

    /// The next reply that has been read; nil when there is none yet.
    func nextBuffered() throws(MemoryError) -> ValkeyReply? {
        var raw: UnsafeMutableRawPointer?
        guard unsafe redisGetReplyFromReader(context, &raw) == REDIS_OK else { throw lost() }
        guard let raw = unsafe raw else { return nil }
        defer { unsafe freeReplyObject(raw) }
        return unsafe Self.reply(raw.assumingMemoryBound(to: redisReply.self))
    }

    private static func reply(_ reply: UnsafePointer<redisReply>) -> ValkeyReply {
        switch unsafe reply.pointee.type {
        case REDIS_REPLY_STRING, REDIS_REPLY_STATUS:
            return unsafe .bytes(bytes(reply))
        case REDIS_REPLY_ERROR:
            return unsafe .error(String(decoding: bytes(reply), as: UTF8.self))
        case REDIS_REPLY_INTEGER:
            return unsafe .int(reply.pointee.integer)
        case REDIS_REPLY_ARRAY:
            let elements = unsafe (0..<reply.pointee.elements).map { index in
                unsafe reply.pointee.element[index].map { unsafe Self.reply($0) } ?? .null
            }
            return .array(elements)
        default:
            return .null
        }
    }

    private static func bytes(_ reply: UnsafePointer<redisReply>) -> [UInt8] {
        guard let start = unsafe reply.pointee.str else { return [] }
        return unsafe start.withMemoryRebound(to: UInt8.self, capacity: reply.pointee.len) {
            unsafe Array(UnsafeBufferPointer(start: $0, count: reply.pointee.len))
        }
    }
}
