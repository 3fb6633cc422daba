import ServiceLifecycle

/// Lets the listener go on for a moment after SIGTERM. What was sent before the signal may not have been read yet, or wait in
/// a connection that was not accepted yet; closing at once would reset it.
struct Linger: Service {
    private static let time: Duration = .milliseconds(500)

    func run() async throws {
        try? await gracefulShutdown()
        try? await Task.sleep(for: Self.time)
    }
}
