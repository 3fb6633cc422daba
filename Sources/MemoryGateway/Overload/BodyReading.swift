import Hummingbird
import MemoryCore
import Synchronization

/// Reads bodies within what memory there is for them, and large ones off the pool that serves everyone.
struct BodyReading: Sendable {
    let budget: BodyBudget

    /// How much room a body takes for each of its bytes: as it came, as what is built of it, and as what is sent to the stores.
    private static let copies = 3
    /// From which size on parsing takes longer than a millisecond.
    private static let slowBytes = 1 << 18
    /// How long a large body may take, and for how many of its bytes a second more.
    var patience = Duration.seconds(15)
    private static let bytesPerSecond = 1 << 18
    /// How long a body may wait for a thread that parses it.
    private static let parsing = Duration.seconds(5)

    /// Bytes that were read, and the room that they take.
    final class Body: Sendable {
        let count: Int
        let room: BodyRoom
        private let bytes: Mutex<[UInt8]>

        init(_ bytes: [UInt8], room: BodyRoom) {
            count = bytes.count
            self.bytes = Mutex(bytes)
            self.room = room
        }

        /// The bytes, which are not kept here any longer: they would be in memory beside what is built of them.
        fileprivate func take() -> [UInt8] {
            bytes.withLock { bytes in
                defer { bytes = [] }
                return bytes
            }
        }
    }

    /// The body, as it came.
    ///
    /// - Throws: 415 for another type or a compressed body, 413 for one over the limit, 503 `overloaded` when too many
    ///   bytes are held already, 400 for one that ends before its announced length, 408 for one that comes too slowly.
    func bytes(_ request: Request, maxBytes: Int) async throws -> Body {
        try request.requireType("application/json")
        let announced = request.headers[.contentLength].flatMap { Int($0) }
        guard announced ?? 0 <= maxBytes else { throw HTTPError(.contentTooLarge) }
        guard let announced, announced <= BodyBudget.smallBytes else {
            let seconds = (announced ?? maxBytes) / Self.bytesPerSecond
            return try await within(patience + .seconds(seconds)) {
                try await collect(request, announced, maxBytes: maxBytes)
            }
        }
        return try await collect(request, announced, maxBytes: maxBytes)
    }

    private func collect(_ request: Request, _ announced: Int?, maxBytes: Int) async throws -> Body {
        let isLarge = announced.map { $0 > BodyBudget.smallBytes } ?? true
        let room = BodyRoom(budget, isLarge: isLarge)
        // A body that will not fit is refused before any of it is read; what counts then is what has come.
        guard let announced else { return try await collect(request, into: room, capacity: 0, maxBytes: maxBytes) }
        guard BodyRoom(budget, isLarge: isLarge).take(announced * Self.copies) else { throw Self.refusal }
        return try await collect(request, into: room, capacity: announced, maxBytes: maxBytes)
    }

    private func collect(
        _ request: Request, into room: BodyRoom, capacity: Int, maxBytes: Int
    ) async throws -> Body {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(capacity)
        do {
            for try await chunk in request.body {
                guard bytes.count + chunk.readableBytes <= maxBytes else { throw HTTPError(.contentTooLarge) }
                guard room.take(chunk.readableBytes * Self.copies) else { throw Self.refusal }
                bytes.append(contentsOf: chunk.readableBytesView)
            }
        } catch let error as any HTTPResponseError {
            throw error
        } catch let error as MemoryError {
            throw error
        } catch let error as CancellationError {
            throw error
        } catch {
            throw MemoryError(invalid: "The body ends before its announced length")
        }
        return Body(bytes, room: room)
    }

    private static let refusal = MemoryError.overloaded("Too many large bodies at once, please retry")

    /// What `body` gives, if it does so in time.
    private func within(
        _ duration: Duration, _ body: @escaping @Sendable () async throws -> Body
    ) async throws -> Body {
        try await withThrowingTaskGroup(of: Body?.self) { group in
            group.addTask { try await body() }
            group.addTask {
                try await Task.sleep(for: duration)
                return nil
            }
            defer { group.cancelAll() }
            guard let first = try await group.next(), let read = first else { throw HTTPError(.requestTimeout) }
            return read
        }
    }

    // MARK: Parsing

    /// The object that a body holds. `list` is the member whose items fail alone.
    ///
    /// - Throws: ``MemoryError`` with `invalid_request`, or `overloaded`.
    func object(_ body: Body, list: String?) async throws(MemoryError) -> JSONObject {
        guard body.count > Self.slowBytes else {
            return try JSONObject(request: body.take(), list: list, reserve: body.room.take)
        }
        return try await WorkThreads.shared.run(deadline: .after(Self.parsing)) { () throws(MemoryError) in
            try JSONObject(request: body.take(), list: list, reserve: body.room.take)
        }
    }
}
