extension Memory {
    /// What was done, or would be, about one migration.
    public struct MigrationStep: Sendable {
        /// The name of the file.
        public let name: String
        /// `applied`, `present` or `pending`.
        public let state: String
    }

    /// Applies the migrations that a database lacks; a dry run changes nothing, and says what would be applied.
    ///
    /// - Throws: ``MemoryError`` with `configuration` when the recorded history is not that of the files.
    public static func migrate(
        _ configuration: MemoryConfiguration, dryRun: Bool = false
    ) async throws(MemoryError) -> [MigrationStep] {
        let database = try OpenStores.database(configuration)
        let result: Result<[Migrator.Step], MemoryError>
        do throws(MemoryError) {
            result = .success(
                try await Migrator(database: database).run(dryRun: dryRun, deadline: .after(.seconds(600))))
        } catch {
            result = .failure(error)
        }
        await database.close()
        return try result.get().map { MigrationStep(name: $0.name, state: $0.state.rawValue) }
    }

    /// What was found, or done, about one collection.
    public struct CollectionReport: Sendable {
        /// The name of the collection.
        public let name: String
        /// `created`, `completed`, `matches`, `missing` or `differs`.
        public let state: String
        /// What differs, each with what is expected and what was found.
        public let differences: [String]
        /// Whether the gateway cannot work with it.
        public let isFatal: Bool
    }

    /// Creates the collections that are missing; a second run changes nothing. A check changes nothing either, and says what
    /// differs.
    public static func setUpCollections(
        _ configuration: MemoryConfiguration, check: Bool = false
    ) async throws(MemoryError) -> [CollectionReport] {
        let client = try QdrantClient(configuration.qdrant)
        let setup = QdrantSetup(
            client: client, definitions: try CollectionDefinition.bundled(),
            prefix: configuration.qdrant.collectionPrefix)
        let result: Result<[QdrantSetup.Report], MemoryError>
        do throws(MemoryError) {
            result = .success(try await setup.run(changes: !check, deadline: .after(.seconds(60))))
        } catch {
            result = .failure(error)
        }
        await client.close()
        return try result.get().map {
            CollectionReport(
                name: $0.name, state: $0.state.rawValue, differences: $0.differences, isFatal: $0.isFatal)
        }
    }
}
