/// What a cache may have wrong, because writing to it failed.
struct Distrust {
    /// Beyond this many clients and records, everything is distrusted.
    private static let capacity = 100_000

    /// How many writes have failed.
    private(set) var failures = 0
    /// Whether the last write did.
    var writesFail = false
    /// The clients whose erasure is owed; nil when they are too many.
    var erased: Set<Int>? = []
    var erasureChanges = 0
    private var clients: [Int: (records: Set<RecordKey>, lastFailure: Int)] = [:]
    private var size = 0

    var isFull: Bool { size >= Self.capacity }

    func contains(_ clientID: Int) -> Bool { clients[clientID] != nil || isFull || isErased(clientID) }

    func isErased(_ clientID: Int) -> Bool { erased?.contains(clientID) ?? true }

    func records(of clientIDs: Set<Int>) -> [RecordKey] {
        clients.isEmpty ? [] : clientIDs.flatMap { clients[$0]?.records ?? [] }
    }

    mutating func note(_ clientIDs: Set<Int>, _ keys: [RecordKey]) {
        failures += 1
        guard !isFull else { return }
        for clientID in clientIDs { clients[clientID, default: ([], 0)].lastFailure = failures }
        for key in keys { clients[key.clientID]?.records.insert(key) }
        size += clientIDs.count + keys.count
    }

    mutating func forget() { (clients, size) = ([:], 0) }

    /// Ends the distrust of clients, unless another write failed since.
    mutating func trust(_ clientIDs: Set<Int>, asOf known: Int) {
        guard !clients.isEmpty, !isFull else { return }
        for clientID in clientIDs {
            guard let client = clients[clientID], client.lastFailure <= known else { continue }
            clients[clientID] = nil
        }
        if clients.isEmpty { size = 0 }
    }
}
