import Dispatch
import Glibc
import MemoryCore
import Synchronization

/// Takes lines and has one thread write them, so that whoever logs never waits for whoever reads. Lines beyond what is kept are
/// dropped and counted, and a line says how many, as soon as there is room.
final class LogWriter: Sendable {
    static let standardError = LogWriter(STDERR_FILENO)

    private struct State {
        var lines: [[UInt8]] = []
        var bytes = 0
        /// Dropped since the line that said so.
        var unsaid = 0
        /// Whether the thread has lines in hand.
        var isWriting = false
        var hasThread = false
    }

    private static let maxBytes = 1 << 20
    /// What one `write` is given at most, unless a line is longer.
    private static let chunk = 16 << 10

    private let descriptor: Int32
    private let state = Mutex(State())
    private let available = DispatchSemaphore(value: 0)
    private let total = Atomic<Int>(0)

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// How many lines were dropped.
    var dropped: Int { total.load(ordering: .relaxed) }

    /// Takes a line, which ends with a line break.
    func write(_ line: [UInt8]) {
        enum Step { case none, wake, start }
        let step = state.withLock { state -> Step in
            guard state.bytes + line.count <= Self.maxBytes else {
                state.unsaid += 1
                total.wrappingAdd(1, ordering: .relaxed)
                return .none
            }
            defer {
                state.lines.append(line)
                state.bytes += line.count
                state.hasThread = true
            }
            if !state.hasThread { return .start }
            return state.lines.isEmpty && !state.isWriting ? .wake : .none
        }
        switch step {
        case .none: break
        case .wake: available.signal()
        case .start: start()
        }
    }

    private func start() {
        do {
            try startThread { [self] in serve() }
        } catch {
            // The next line tries again.
            state.withLock { $0.hasThread = false }
        }
    }

    /// Waits until everything is written, or the time is up: nobody may be reading.
    func flush(within duration: Duration) {
        let end = ContinuousClock.now + duration
        while state.withLock({ $0.isWriting || !$0.lines.isEmpty }), .now < end { usleep(1000) }
    }

    // MARK: The thread

    private func serve() {
        while true {
            let (lines, dropped) = state.withLock { state -> ([[UInt8]], Int) in
                state.isWriting = !state.lines.isEmpty
                guard state.isWriting else { return ([], 0) }
                defer { (state.lines, state.bytes, state.unsaid) = ([], 0, 0) }
                return (state.lines, state.unsaid)
            }
            if lines.isEmpty {
                available.wait()
                continue
            }
            var chunk: [UInt8] = []
            for line in lines {
                if !chunk.isEmpty, chunk.count + line.count > Self.chunk {
                    put(chunk)
                    chunk = []
                }
                chunk += line
            }
            put(chunk)
            if dropped > 0 { put(GatewayLogHandler.line(dropped: dropped)) }
        }
    }

    /// Writes all of it, however long that takes; what cannot be written at all, as on a full disk, is dropped.
    private func put(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                var descriptor = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&descriptor, 1, 1000)
            } else if errno != EINTR {
                let count = rest.count { $0 == 0x0A }
                total.wrappingAdd(count, ordering: .relaxed)
                state.withLock { $0.unsaid += count }
                return
            }
        }
    }
}
