/// What a point stands for: a record, or a chunk of a document.
enum PointSubject: Sendable {
    case record(MemoryRecord)
    case chunk(DocumentChunk)

    var id: Int64 {
        switch self {
        case .record(let record): record.id
        case .chunk(let chunk): chunk.id
        }
    }

    /// 0 for a document that everyone shares.
    var clientID: Int {
        switch self {
        case .record(let record): record.clientID
        case .chunk(let chunk): chunk.clientID
        }
    }

    var content: String {
        switch self {
        case .record(let record): record.content
        case .chunk(let chunk): chunk.content
        }
    }

    var collection: VectorCollection {
        switch self {
        case .record(let record): record.kind.source.collection
        case .chunk: .docChunks
        }
    }

    var expiresAt: Timestamp? { if case .record(let record) = self { record.expiresAt } else { nil } }
}
