import FoundationEssentials
import Logging

/// The three stores of a configuration, each where its setting says.
struct OpenStores: Sendable {
    var database: any SQLDatabase
    var vectors: any VectorStore
    var shortTerm: any ShortTermStore

    init(
        _ configuration: MemoryConfiguration, logger: Logger, surroundings: any Surroundings = SystemSurroundings()
    ) async throws(MemoryError) {
        func outage(_ store: MemoryError.Store) -> Outage {
            Outage(of: store, logger: logger, surroundings: surroundings)
        }
        let file = try Self.file(configuration, outage: outage(.sqlite))
        switch configuration.records {
        case .embedded: database = try Self.required(file)
        case .server: database = try PostgresDatabase(configuration.postgres, outage: outage(.postgres))
        }
        switch configuration.vectors {
        case .embedded:
            vectors = EmbeddedVectorStore(
                try Self.required(file), maxCacheBytes: configuration.embedded.maxVectorBytes,
                ownsDatabase: configuration.records == .server)
        case .server: vectors = try QdrantStore(configuration.qdrant, outage: outage(.qdrant))
        }
        switch configuration.shortTerm {
        case .embedded:
            shortTerm = EmbeddedCache(
                maxBytes: configuration.embedded.maxCacheBytes, surroundings: surroundings)
        case .server: shortTerm = try await ValkeyStore(configuration.valkey, logger: logger)
        }
    }

    /// The primary store alone, with as few connections as can be.
    static func database(_ configuration: MemoryConfiguration) throws(MemoryError) -> any SQLDatabase {
        guard configuration.records == .server else {
            return try required(file(configuration))
        }
        var settings = configuration.postgres
        settings.connections = 1
        return try PostgresDatabase(settings)
    }

    /// The file of what is embedded, which is one for records and vectors; nil when neither is.
    private static func file(
        _ configuration: MemoryConfiguration, outage: Outage = .silent
    ) throws(MemoryError) -> SQLiteDatabase? {
        guard configuration.records == .embedded || configuration.vectors == .embedded else { return nil }
        let path = configuration.embedded.path
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        } catch {
            throw MemoryError(.configuration, "\(folder.path) cannot be made", store: .sqlite, detail: "\(error)")
        }
        return try SQLiteDatabase(path: path, outage: outage)
    }

    private static func required(_ file: SQLiteDatabase?) throws(MemoryError) -> SQLiteDatabase {
        guard let file else { throw MemoryError(.configuration, "No file is set", store: .sqlite) }
        return file
    }
}
