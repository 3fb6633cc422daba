/// Which queues a call waits in. Each lane has its own batches, and its own share of the connections, so that the long
/// budgets of work that nobody waits for never bind a request.
///
/// A lane belongs to a task, as its priority does, and goes along with whatever that task begins.
enum Lane: Int, CaseIterable, Sendable {
    /// What somebody waits for.
    case request
    /// The outbox, the reconciler, documents, imports.
    case background
    /// Whether a store answers: asked seldom, and never to wait behind the others.
    case health

    @TaskLocal static var current = Lane.request

    /// Runs a call in this lane.
    func run<Value>(_ call: () async throws(MemoryError) -> Value) async throws(MemoryError) -> Value {
        let result = await Self.$current.withValue(self) { () async -> Result<Value, MemoryError> in
            do throws(MemoryError) {
                return .success(try await call())
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}
