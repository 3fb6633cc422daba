import CCurl
import Glibc
import Synchronization

/// The one owner of a libcurl multi handle. It belongs to one thread, which drives all its transfers.
///
/// Everything that touches libcurl's pointers is in this file.
@safe struct CurlMulti: ~Copyable {
    private let multi: UnsafeMutableRawPointer
    private let store: MemoryError.Store
    private let underWay = CurlTransfers()

    /// libcurl asks to be initialised once, before any thread uses it.
    private static let initialised: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

    /// Opens a handle on the thread that will own it, and tells the waker of it.
    init(store: MemoryError.Store, connections: Int, waker: CurlWaker) throws(MemoryError) {
        guard Self.initialised, let multi = unsafe curl_multi_init() else {
            throw .unavailable(store, "libcurl could not be initialised")
        }
        unsafe mg_curl_multi_set_long(multi, CURLMOPT_MAX_HOST_CONNECTIONS, connections)
        unsafe mg_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, connections)
        unsafe self.multi = multi
        self.store = store
        unsafe waker.watch(multi)
    }

    deinit { unsafe curl_multi_cleanup(multi) }

    // MARK: Transfers

    /// Starts a transfer; `done` is called once, from a later ``step(waitingAtMost:)`` or from here when it cannot start.
    func start(_ request: CurlRequest, _ done: @escaping @Sendable (Result<CurlReply, MemoryError>) -> Void) {
        guard !request.deadline.hasPassed else { return done(.failure(.waited(for: store))) }
        guard let easy = unsafe curl_easy_init() else {
            return done(.failure(.unavailable(store, "libcurl has no memory for a transfer")))
        }
        let transfer = CurlTransfer(request, done)
        // Released in `finish`, which every transfer reaches, or below when libcurl refuses it.
        let context = unsafe Unmanaged.passRetained(transfer).toOpaque()
        unsafe transfer.configure(easy, context)
        guard unsafe curl_multi_add_handle(multi, easy) == CURLM_OK else {
            unsafe Unmanaged<CurlTransfer>.fromOpaque(context).release()
            unsafe transfer.release(easy)
            return done(.failure(.unavailable(store, "libcurl refused the transfer")))
        }
        unsafe underWay.add(easy, until: request.deadline)
    }

    /// Moves every transfer on, then waits for the next thing to happen.
    func step(waitingAtMost limit: Duration) {
        var running: Int32 = 0
        unsafe curl_multi_perform(multi, &running)
        finishCompleted()
        let wait = min(Int32(clamping: limit.wholeMilliseconds), underWay.nextDeadline?.remainingMilliseconds ?? .max)
        unsafe curl_multi_poll(multi, nil, 0, wait, nil)
        unsafe curl_multi_perform(multi, &running)
        finishCompleted()
        // After what has come in was read: libcurl's own timeout does not look, should the process have been held up.
        for easy in unsafe underWay.takePassed() { unsafe finish(easy, CURLE_OPERATION_TIMEDOUT) }
    }

    private func finishCompleted() {
        var code = CURLE_OK
        while let easy = unsafe mg_curl_next_done(multi, &code) {
            unsafe underWay.remove(easy)
            unsafe finish(easy, code)
        }
    }

    private func finish(_ easy: UnsafeMutableRawPointer, _ code: CURLcode) {
        var context: UnsafeMutableRawPointer?
        unsafe mg_curl_get_private(easy, &context)
        var status = 0
        unsafe mg_curl_get_status(easy, &status)
        unsafe curl_multi_remove_handle(multi, easy)
        guard let context = unsafe context else { return }
        let transfer = unsafe Unmanaged<CurlTransfer>.fromOpaque(context).takeRetainedValue()
        unsafe transfer.release(easy)
        transfer.finish(code, status: status, store: store)
    }
}

/// The transfers of a multi handle with their deadlines. It belongs to the handle's thread.
@safe private final class CurlTransfers {
    private var deadlines: [UnsafeMutableRawPointer: Deadline] = [:]
    /// No later than any of them.
    private(set) var nextDeadline: Deadline?

    func add(_ easy: UnsafeMutableRawPointer, until deadline: Deadline) {
        unsafe deadlines[easy] = deadline
        nextDeadline = nextDeadline.map { min($0, deadline) } ?? deadline
    }

    func remove(_ easy: UnsafeMutableRawPointer) { unsafe deadlines[easy] = nil }

    /// Takes out those whose time is over.
    func takePassed() -> [UnsafeMutableRawPointer] {
        guard let next = nextDeadline, next.hasPassed else { return unsafe [] }
        let passed = unsafe deadlines.filter { unsafe $0.value.hasPassed }.map { unsafe $0.key }
        for easy in unsafe passed { unsafe deadlines[easy] = nil }
        nextDeadline = unsafe deadlines.values.min()
        return unsafe passed
    }
}

/// Ends the wait of a multi handle's thread from another one.
final class CurlWaker: Sendable {
    /// The multi handle's address. `curl_multi_wakeup` is the one call that libcurl allows from any thread; the lock keeps
    /// it from being made once the owner has let the handle go.
    private let address = Mutex<UInt?>(nil)

    fileprivate func watch(_ multi: UnsafeMutableRawPointer) {
        let bits = UInt(bitPattern: multi)
        address.withLock { $0 = bits }
    }

    func wake() {
        address.withLock { address in
            guard let address, let multi = unsafe UnsafeMutableRawPointer(bitPattern: address) else { return }
            unsafe curl_multi_wakeup(multi)
        }
    }

    /// Called by the owning thread before the handle goes.
    func retire() { address.withLock { $0 = nil } }
}

/// One transfer: what libcurl reads from and writes to while it is under way.
@safe private final class CurlTransfer {
    private let request: CurlRequest
    private let startedAt = Pulse.now
    private let done: @Sendable (Result<CurlReply, MemoryError>) -> Void
    private var body: [UInt8] = []
    private var isTooLong = false
    private var retryAfter: Duration?
    private var headers: UnsafeMutablePointer<curl_slist>?

    /// Whoever had less time than this for an answer says nothing of the server.
    private static let fairTime: Int64 = 50_000_000

    init(_ request: CurlRequest, _ done: @escaping @Sendable (Result<CurlReply, MemoryError>) -> Void) {
        self.request = request
        self.done = done
    }

    func configure(_ easy: UnsafeMutableRawPointer, _ context: UnsafeMutableRawPointer) {
        unsafe mg_curl_set_string(easy, CURLOPT_URL, request.url)
        unsafe mg_curl_set_string(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        unsafe mg_curl_set_long(easy, CURLOPT_NOSIGNAL, 1)
        // A transfer that has ended does not wait for its name server: that thread ends by itself.
        unsafe mg_curl_set_long(easy, CURLOPT_QUICK_EXIT, 1)
        unsafe mg_curl_set_long(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
        unsafe mg_curl_set_long(easy, CURLOPT_TCP_KEEPALIVE, 1)
        // Servers close idle connections after a few seconds; one that old is not worth trying.
        unsafe mg_curl_set_long(easy, CURLOPT_MAXAGE_CONN, 4)
        // Its owner ends it at its deadline; this is for a deadline that nobody looked at.
        let milliseconds = Int(request.deadline.remainingMilliseconds)
        unsafe mg_curl_set_long(easy, CURLOPT_TIMEOUT_MS, milliseconds + 2000)
        unsafe mg_curl_set_long(easy, CURLOPT_CONNECTTIMEOUT_MS, 2000)
        // An empty Expect keeps libcurl from waiting for "100 Continue" before a large body.
        for line in request.headers + ["Expect:"] {
            if let longer = unsafe curl_slist_append(headers, line) { unsafe headers = longer }
        }
        unsafe mg_curl_set_headers(easy, headers)
        unsafe setBody(easy)
        unsafe mg_curl_set_pointer(easy, CURLOPT_PRIVATE, context)
        unsafe mg_curl_set_pointer(easy, CURLOPT_WRITEDATA, context)
        unsafe mg_curl_set_pointer(easy, CURLOPT_HEADERDATA, context)
        unsafe mg_curl_set_write(easy, CURLOPT_WRITEFUNCTION) { data, size, count, context in
            unsafe CurlTransfer.received(data, size * count, context) { unsafe $0.append($1) }
        }
        unsafe mg_curl_set_write(easy, CURLOPT_HEADERFUNCTION) { data, size, count, context in
            unsafe CurlTransfer.received(data, size * count, context) { unsafe $0.readHeader($1) }
        }
    }

    private func setBody(_ easy: UnsafeMutableRawPointer) {
        guard request.method != .get else { return }
        unsafe request.body.withUnsafeBytes { _ = unsafe mg_curl_set_body(easy, $0.baseAddress, $0.count) }
        unsafe mg_curl_set_string(easy, CURLOPT_CUSTOMREQUEST, request.method.rawValue)
    }

    /// Frees what libcurl used for this transfer.
    func release(_ easy: UnsafeMutableRawPointer) {
        unsafe curl_easy_cleanup(easy)
        unsafe curl_slist_free_all(headers)
        unsafe headers = nil
    }

    func finish(_ code: CURLcode, status: Int, store: MemoryError.Store) {
        guard code != CURLE_OK else {
            return done(.success(CurlReply(status: status, body: body, retryAfter: retryAfter)))
        }
        let reason = unsafe String(cString: curl_easy_strerror(code))
        if isTooLong {
            done(.failure(.badReply(store, "an answer of more than \(request.maxBytes) bytes")))
        } else if code == CURLE_OPERATION_TIMEDOUT {
            var error = MemoryError.timeout(store, reason)
            error.isOwnDelay = request.deadline.wasHeldUp || Pulse.now - startedAt < Self.fairTime
            done(.failure(error))
        } else {
            done(.failure(.unavailable(store, reason, driverCode: "curl \(code.rawValue)")))
        }
    }

    // MARK: What comes in

    /// The body of both callbacks; any other answer than the count makes libcurl end the transfer.
    private static func received(
        _ data: UnsafeMutablePointer<CChar>?, _ count: Int, _ context: UnsafeMutableRawPointer?,
        _ take: (CurlTransfer, UnsafeRawBufferPointer) -> Bool
    ) -> Int {
        guard let context = unsafe context else { return 0 }
        let transfer = unsafe Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
        return unsafe take(transfer, UnsafeRawBufferPointer(start: data, count: count)) ? count : 0
    }

    private func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard body.count + bytes.count <= request.maxBytes else {
            isTooLong = true
            return false
        }
        unsafe body.append(contentsOf: bytes)
        return true
    }

    private func readHeader(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count < 200 else { return true }
        let line = unsafe String(decoding: bytes, as: UTF8.self).lowercased()
        guard line.hasPrefix("retry-after:") else { return true }
        let value = line.dropFirst("retry-after:".count).filter { !$0.isWhitespace }
        if let seconds = Int(value), (0...86_400).contains(seconds) { retryAfter = .seconds(seconds) }
        return true
    }
}
