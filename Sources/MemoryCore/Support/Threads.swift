import Glibc

/// Runs `body` on a thread of its own: for C libraries that block, which must never hold a thread of the cooperative pool.
///
/// - Throws: ``MemoryError`` with `unavailable` when the system has no thread to give.
package func startThread(_ body: @escaping @Sendable () -> Void) throws(MemoryError) {
    final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    // The thread takes the reference over; when it could not be started, it is released below.
    let box = unsafe Unmanaged.passRetained(Box(body))
    var thread = pthread_t()
    let status = unsafe pthread_create(
        &thread, nil,
        { context in
            guard let context = unsafe context else { return nil }
            // A peer that hangs up must be an error of the write, not the end of the process.
            var signals = sigset_t()
            unsafe sigemptyset(&signals)
            unsafe sigaddset(&signals, SIGPIPE)
            unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
            unsafe Unmanaged<Box>.fromOpaque(context).takeRetainedValue().body()
            return nil
        }, box.toOpaque())
    guard status == 0 else {
        unsafe box.release()
        throw MemoryError(.unavailable, "The system has no thread to give", detail: "pthread_create: \(status)")
    }
    pthread_detach(thread)
}

/// Holds a thread that was started with ``startThread(_:)``.
func pauseThread(_ duration: Duration) { usleep(UInt32(clamping: duration.nanoseconds / 1000)) }
