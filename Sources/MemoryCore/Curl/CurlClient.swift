import Dispatch
import Synchronization

/// A request to a store that speaks HTTP.
struct CurlRequest: Sendable {
    enum Method: String, Sendable {
        case get = "GET"
        case put = "PUT"
        case post = "POST"
        case delete = "DELETE"
    }

    var method: Method
    var url: String
    /// Lines such as `api-key: …`.
    var headers: [String] = []
    var body: [UInt8] = []
    /// The total time from now, not the time between two reads.
    var deadline: Deadline
    /// A longer answer is cut off and counts as an error.
    var maxBytes = 8 << 20
}

/// What a server answered.
struct CurlReply: Sendable {
    let status: Int
    let body: [UInt8]
    /// The `Retry-After` header in seconds, if there was one.
    let retryAfter: Duration?
}

/// HTTP over libcurl's multi interface: one thread drives every transfer of one store, over kept-alive connections.
///
/// Redirects are not followed, and only `http` and `https` are spoken.
final class CurlClient: Sendable {
    private struct Call: Sendable {
        let request: CurlRequest
        let done: @Sendable (Result<CurlReply, MemoryError>) -> Void
    }

    private struct State {
        var calls: [Call] = []
        var active = 0
        var isClosed = false
        /// The thread has ended; nobody is left who could wake a caller.
        var hasEnded = false
        var closing: [CheckedContinuation<Void, Never>] = []
    }

    private let store: MemoryError.Store
    private let maxActive: Int
    private let waker = CurlWaker()
    private let state = Mutex(State())

    /// A client that names `store` in its errors, holds at most `connections` to one host, and has at most `maxActive` calls
    /// under way or waiting; one more fails at once.
    init(store: MemoryError.Store, connections: Int = 16, maxActive: Int = 1024) throws(MemoryError) {
        self.store = store
        self.maxActive = maxActive
        try startThread { [self] in
            do throws(MemoryError) {
                try serve(CurlMulti(store: store, connections: connections, waker: waker))
            } catch {
                refuseAll(error)
            }
        }
    }

    func send(_ request: CurlRequest) async throws(MemoryError) -> CurlReply {
        let result = await withCheckedContinuation {
            (done: CheckedContinuation<Result<CurlReply, MemoryError>, Never>) in
            let refusal: String? = state.withLock { state in
                if state.isClosed { return "the client is closed" }
                if state.active >= maxActive { return "too many requests are under way" }
                state.active += 1
                state.calls.append(
                    Call(request: request) { result in
                        self.state.withLock { $0.active -= 1 }
                        done.resume(returning: result)
                    })
                return nil
            }
            if let refusal {
                done.resume(returning: .failure(.unavailable(store, refusal)))
            } else {
                waker.wake()
            }
        }
        return try result.get()
    }

    func close() async {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            let hasEnded = state.withLock { state in
                state.isClosed = true
                if !state.hasEnded { state.closing.append(done) }
                return state.hasEnded
            }
            if hasEnded { done.resume() } else { waker.wake() }
        }
    }

    /// Without a handle there is nothing to serve with.
    private func refuseAll(_ error: MemoryError) {
        let calls = state.withLock { state in
            state.isClosed = true
            defer { state.calls = [] }
            return state.calls
        }
        for call in calls { call.done(.failure(error)) }
        end()
    }

    /// Lets those go on who wait for the end.
    private func end() {
        let waiters = state.withLock { state in
            state.hasEnded = true
            defer { state.closing = [] }
            return state.closing
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Starts what has come in and moves every transfer on, until the client is closed and all have ended.
    private func serve(_ multi: borrowing CurlMulti) {
        while true {
            let (calls, isOver) = state.withLock { state in
                defer { state.calls = [] }
                return (state.calls, state.isClosed && state.active == 0)
            }
            if isOver { break }
            for call in calls { multi.start(call.request, call.done) }
            multi.step(waitingAtMost: .seconds(1))
        }
        waker.retire()
        end()
    }
}
