/// What the primary store says that each collection should hold.
struct ReconciliationRepository {
    let session: any SQLSession

    /// Records or chunks whose points belong into a collection, as a condition on `event_type`; nil for documents.
    private static func kind(_ collection: VectorCollection) -> String? {
        switch collection {
        case .events: "memory:%"
        case .agentMemories: "agent_memory:%"
        case .dailyThreads: "reflection"
        default: nil
        }
    }

    /// A statement for each kind, because only a condition that the text itself has can use a partial index.
    private static func count(_ collection: VectorCollection) -> SQL {
        switch collection {
        case .events: "SELECT count(*) FROM events WHERE event_type LIKE 'memory:%'"
        case .agentMemories: "SELECT count(*) FROM events WHERE event_type LIKE 'agent_memory:%'"
        case .dailyThreads: "SELECT count(*) FROM events WHERE event_type = 'reflection'"
        default: "SELECT coalesce(sum(chunks), 0) FROM documents WHERE generation IS NOT NULL"
        }
    }

    /// How many there are, and how many rows the outbox has of them.
    func counts(_ collection: VectorCollection) throws(MemoryError) -> (records: Int, owed: Int) {
        let records = try session.query(Self.count(collection), [])
        let owed = try session.query(
            "SELECT count(*) FROM memory_outbox WHERE collection = $1", [.text(collection.description)])
        return (Int(clamping: try records.first?.int(0) ?? 0), Int(clamping: try owed.first?.int(0) ?? 0))
    }

    /// By id, after a given one, those whose points should be there, each with how often it was written: the outbox owes
    /// nothing of them.
    func settled(
        _ collection: VectorCollection, after id: Int64, limit: Int
    ) throws(MemoryError) -> [(key: RecordKey, version: Int64)] {
        let values: [SQLValue] = [.int(id), .text(collection.description), .int(Int64(limit))]
        let rows =
            if let kind = Self.kind(collection) {
                try session.query(
                    """
                    SELECT e.id, e.client_id,
                        coalesce((SELECT max(h.version) FROM memory_history h WHERE h.event_id = e.id), 0) + 1
                    FROM events e WHERE e.id > $1 AND e.event_type LIKE $4
                        AND NOT EXISTS (SELECT 1 FROM memory_outbox o WHERE o.collection = $2 AND o.record_id = e.id)
                    ORDER BY e.id LIMIT $3
                    """, values + [.text(kind)])
            } else {
                try session.query(
                    """
                    SELECT c.id, c.client_id, 1 FROM document_chunks c
                    JOIN documents d ON d.id = c.document_id AND d.generation = c.generation WHERE c.id > $1
                        AND NOT EXISTS (SELECT 1 FROM memory_outbox o WHERE o.collection = $2 AND o.record_id = c.id)
                    ORDER BY c.id LIMIT $3
                    """, values)
            }
        return try rows.map { row throws(MemoryError) in
            (RecordKey(id: try row.int(0), clientID: Int(clamping: try row.int(1))), try row.int(2))
        }
    }

    /// Which of these ids there are.
    func existing(_ ids: [Int64], _ collection: VectorCollection) throws(MemoryError) -> Set<Int64> {
        let rows =
            if let kind = Self.kind(collection) {
                try session.query(
                    "SELECT id FROM events WHERE id #anyInt($1) AND event_type LIKE $2", [.ints(ids), .text(kind)])
            } else {
                try session.query(
                    """
                    SELECT c.id FROM document_chunks c
                    JOIN documents d ON d.id = c.document_id AND d.generation = c.generation WHERE c.id #anyInt($1)
                    """, [.ints(ids)])
            }
        return Set(try rows.map { row throws(MemoryError) in try row.int(0) })
    }
}
