/// Which history of its data a server tells of: its life, in which recent writes were not lost by a crash, and the line of
/// replication, which changes at each failover. A primary that another stood in for and that is primary again has lived on,
/// and does not know what was written in between.
struct ValkeyIdentity {
    /// How long it is believed; then it is asked for again, in front of whatever is asked next.
    private static let life: Duration = .milliseconds(500)

    private static let replication: ValkeyCommand = ["INFO", "replication"].map { Array($0.utf8) }

    /// What a connection asks first.
    static let questions: [ValkeyCommand] = [["INFO", "server"].map { Array($0.utf8) }, replication]

    /// One number for all of it: another one stands for another history.
    private(set) var epoch: UInt64
    private let runID: String?
    private var replicationID: String?
    private var freshUntil: Deadline

    /// - Throws: ``MemoryError`` when the server is a replica.
    init(_ answers: ArraySlice<ValkeyReply>) throws(MemoryError) {
        freshUntil = .after(Self.life)
        // An ACL may forbid INFO; then every connection counts as a life of its own, which costs hits but is never stale.
        epoch = .random(in: .min ... .max)
        runID = answers.first.flatMap { Self.value("run_id", $0) }
        guard runID != nil, let answer = answers.last else { return }
        try hear(answer)
    }

    /// What to ask in front of the next commands; nil while what is known is fresh, or asked for.
    mutating func takeQuestion() -> ValkeyCommand? {
        guard runID != nil, freshUntil.hasPassed else { return nil }
        freshUntil = .after(Self.life)
        return Self.replication
    }

    /// Takes in the answer to ``takeQuestion()``.
    ///
    /// - Throws: ``MemoryError`` when the server has become a replica: it takes no writes, and may be behind.
    mutating func hear(_ answer: ValkeyReply) throws(MemoryError) {
        guard Self.value("role", answer) != "slave" else {
            throw .unavailable(.valkey, "a replica", driverCode: "READONLY")
        }
        guard let runID, let found = Self.value("master_replid", answer), found != replicationID else { return }
        replicationID = found
        epoch = UInt64(sha256(runID, found).prefix(8))
    }

    private static func value(_ name: String, _ info: ValkeyReply) -> String? {
        guard case .bytes(let bytes) = info else { return nil }
        return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
            .first { $0.hasPrefix("\(name):") }.map { String($0.dropFirst(name.count + 1)) }
    }
}
