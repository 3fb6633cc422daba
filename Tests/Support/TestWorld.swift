import Foundation
import Logging
import Synchronization

@testable package import MemoryCore

/// The sets of stores that every contract holds on.
package enum StoreSet: String, Sendable, CaseIterable {
    case servers, embedded
}

/// A memory of its own for one test: its own database, keys and clients on the shared servers, or servers of its own
/// where a test wants to stop them.
package struct TestWorld: Sendable {
    /// The settings; a second gateway on the same stores is opened with the same.
    package var configuration = MemoryConfiguration()
    /// A client that no other test uses; so are the next 9,999.
    package let client: Int
    /// Which stores it is made of.
    package let stores: StoreSet
    /// The open memory's database, for statements of the test: an embedded file has one user.
    private let open = Shared<(any SQLDatabase)?>(nil)
    /// The servers that are this test's own.
    package let servers: [TestServers.Name: TestServers.Name]

    private static let count = Atomic<Int>(0)
    private static let template = Template()
    /// So many worlds at once: more would only wait for the processor, and for each other's databases.
    private static let places = Places(6)

    /// Makes a world, runs the test in it, and drops its database.
    @discardableResult
    package static func with<Result: Sendable>(
        _ stores: StoreSet = .servers, own: Set<TestServers.Name> = [],
        configure: @Sendable (inout MemoryConfiguration) -> Void = { _ in },
        _ test: (TestWorld) async throws -> Result
    ) async throws -> Result {
        await places.enter()
        do {
            let result = try await run(stores, own, configure, test)
            await places.leave()
            return result
        } catch {
            await places.leave()
            throw error
        }
    }

    private static func run<Result: Sendable>(
        _ stores: StoreSet, _ own: Set<TestServers.Name>, _ configure: @Sendable (inout MemoryConfiguration) -> Void,
        _ test: (TestWorld) async throws -> Result
    ) async throws -> Result {
        let world = try await TestWorld(stores, own: own, configure: configure)
        let result: Swift.Result<Result, any Error>
        do {
            result = .success(try await test(world))
        } catch let error as MemoryError {
            // A test's log may say what a stranger must not see.
            result = .failure(TestServers.Failure(description: "\(stores): \(error.debugDescription)"))
        } catch {
            result = .failure(error)
        }
        if stores == .embedded {
            try FileManager.default.removeItem(atPath: world.folder)
        }
        for name in world.servers.values { try await TestServers.shared.perform(.remove, name) }
        return try result.get()
    }

    /// The folder of an embedded world's file.
    package var folder: String { URL(fileURLWithPath: configuration.embedded.path).deletingLastPathComponent().path }

    private init(
        _ stores: StoreSet, own: Set<TestServers.Name>, configure: @Sendable (inout MemoryConfiguration) -> Void
    ) async throws {
        let number = Self.count.wrappingAdd(1, ordering: .relaxed).newValue
        client = number * 10_000
        self.stores = stores
        servers = Dictionary(uniqueKeysWithValues: own.map { ($0, $0.own) })
        guard stores == .servers else {
            let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
                "memory-world-\(UUID().uuidString)")
            configuration = .embedded(at: folder.appendingPathComponent("memory.db").path)
            configuration.budgets = .patient
            configure(&configuration)
            return
        }
        configuration.postgres.port = try await TestServers.shared.port(servers[.postgres] ?? .postgres)
        configuration.valkey.port = try await TestServers.shared.port(servers[.valkey] ?? .valkey)
        let qdrant = try await TestServers.shared.port(servers[.qdrant] ?? .qdrant)
        configuration.qdrant.url = "http://127.0.0.1:\(qdrant)"
        configuration.postgres.connections = 4
        configuration.valkey.keyPrefix = "mg\(number)"
        // Machines that run many tests at once are slow; no test of a behaviour should fail for that.
        configuration.budgets = .patient
        if own.contains(.postgres) {
            _ = try await Memory.migrate(configuration)
        } else {
            try await Self.template.prepare(configuration)
            configuration.postgres.database = try await Self.template.copy("world\(number)", configuration)
        }
        if !own.contains(.qdrant) {
            try await Self.template.prepareCollections(configuration)
            configuration.reconciles = false
        }
        // Ids are point ids, and worlds share collections: each world counts from elsewhere.
        try await execute("ALTER SEQUENCE events_id_seq RESTART WITH \(number * 10_000)")
        try await execute("ALTER SEQUENCE document_chunks_id_seq RESTART WITH \(number * 10_000)")
        configure(&configuration)
    }

    /// Opens a memory, and closes it after the test.
    package func withMemory<Result>(_ test: (Memory) async throws -> Result) async throws -> Result {
        let memory = try await Memory.open(
            configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        open.value = memory.database
        do {
            let result = try await test(memory)
            await memory.close()
            return result
        } catch {
            await memory.close()
            throw error
        }
    }

    /// Lets ``execute(_:)`` use the embedded database of a memory that a test has opened by itself.
    package func use(_ memory: Memory) { open.value = memory.database }

    /// Does something to a server of this test's own.
    package func perform(_ verb: TestServers.Verb, _ server: TestServers.Name) async throws {
        guard let own = servers[server] else { throw TestServers.Failure(description: "\(server) is shared") }
        try await TestServers.shared.perform(verb, own)
    }

    /// Runs a statement on this world's database, and answers its rows as text.
    @discardableResult
    package func execute(_ sql: String) async throws -> [[String?]] {
        guard stores == .embedded else { return try await Self.execute(sql, configuration.postgres) }
        guard let database = open.value else { throw TestServers.Failure(description: "no memory is open") }
        let statement = SQL(unsafeText: sql)
        return try await database.write(deadline: .after(.seconds(30))) { session throws(MemoryError) in
            try session.query(statement, []).map { row in row.values.map(\.testText) }
        }
    }

    static func execute(_ sql: String, _ configuration: PostgresConfiguration) async throws -> [[String?]] {
        var configuration = configuration
        configuration.connections = 1
        configuration.statementTimeout = .seconds(30)
        let database = try PostgresDatabase(configuration)
        let statement = SQL(unsafeText: sql)
        do {
            let rows = try await database.read(deadline: .after(.seconds(30))) { session throws(MemoryError) in
                try session.query(statement, []).map { row in row.values.indices.map { row.optionalText($0) } }
            }
            await database.close()
            return rows
        } catch {
            await database.close()
            throw error
        }
    }

    /// Waits until something holds, looking again and again; fails after a minute.
    package func eventually(
        _ what: String, _ holds: () async throws -> Bool
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(60)
        while try await !holds() {
            guard ContinuousClock.now < deadline else {
                throw TestServers.Failure(description: "It did not come to pass: \(what)")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }
}

extension SQLValue {
    /// The value as PostgreSQL would say it.
    fileprivate var testText: String? {
        switch self {
        case .text(let text): text
        case .int(let value): String(value)
        case .double(let value): value.description
        default: nil
        }
    }
}

/// A database with all migrations, copied for each world, because that is faster than migrating each.
private actor Template {
    private let name = "memory_template"
    /// The one preparation, which everyone who comes meanwhile waits for.
    private var database: Task<Void, any Error>?
    private var collections: Task<Void, any Error>?

    func prepare(_ configuration: MemoryConfiguration) async throws {
        let task =
            database
            ?? Task { [name] in
                _ = try await TestWorld.execute("CREATE DATABASE \(name)", configuration.postgres)
                var configuration = configuration
                configuration.postgres.database = name
                _ = try await Memory.migrate(configuration)
            }
        database = task
        try await task.value
    }

    func copy(_ copy: String, _ configuration: MemoryConfiguration) async throws -> String {
        _ = try await TestWorld.execute("CREATE DATABASE \(copy) TEMPLATE \(name)", configuration.postgres)
        return copy
    }

    func prepareCollections(_ configuration: MemoryConfiguration) async throws {
        let task = collections ?? Task { _ = try await Memory.setUpCollections(configuration) }
        collections = task
        try await task.value
    }
}

extension MemoryConfiguration.Budgets {
    /// Half a minute for every step: as long as it takes on a machine that does other things as well. Where a budget is what
    /// is tested, the test sets it.
    fileprivate static var patient: Self {
        var budgets = Self()
        (budgets.remember, budgets.recall) = (.seconds(60), .seconds(60))
        (budgets.transaction, budgets.embedContent, budgets.writeVector) = (.seconds(30), .seconds(30), .seconds(30))
        (budgets.embedQuery, budgets.searchVectors) = (.seconds(30), .seconds(30))
        (budgets.readRecords, budgets.searchText) = (.seconds(30), .seconds(30))
        (budgets.readCache, budgets.writeCache, budgets.countCall) = (.seconds(10), .seconds(10), .seconds(10))
        return budgets
    }
}

/// Lets a limited number in; the others wait their turn.
private actor Places {
    private var free: Int
    private var waiting: [CheckedContinuation<Void, Never>] = []

    init(_ count: Int) { free = count }

    func enter() async {
        if free > 0 {
            free -= 1
        } else {
            await withCheckedContinuation { waiting.append($0) }
        }
    }

    func leave() {
        if waiting.isEmpty {
            free += 1
        } else {
            waiting.removeFirst().resume()
        }
    }
}
