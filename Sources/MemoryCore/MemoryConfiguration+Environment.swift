public import Configuration
import FoundationEssentials

extension MemoryConfiguration {
    /// The settings of this process's environment.
    ///
    /// - Throws: ``MemoryError`` with `configuration`, naming the variable; never its value, which may be a secret.
    public static func environment() throws(MemoryError) -> MemoryConfiguration {
        try MemoryConfiguration(reader: ConfigReader(provider: EnvironmentVariablesProvider()))
    }

    /// Reads the settings. An empty value counts as not set.
    ///
    /// Each of the three stores is a server when any of its variables is set, and embedded when none is.
    ///
    /// - `MEMORY_DATA_DIR` (./memory-data), `MEMORY_CACHE_MB` (200, 1...100,000), `MEMORY_VECTOR_CACHE_MB` (320, 1...100,000)
    /// - `DATABASE_URL` (secret), or `POSTGRES_HOST` (127.0.0.1), `POSTGRES_PORT` (5432), `POSTGRES_DB` (postgres),
    ///   `POSTGRES_USER` (postgres), `POSTGRES_PASSWORD` (secret); `POSTGRES_SSLMODE` (prefer), `POSTGRES_CONNECTIONS` (8, 1...100)
    /// - `VALKEY_URL` (secret), or `VALKEY_HOST` (127.0.0.1), `VALKEY_PORT` (6379), `VALKEY_DB` (0), `VALKEY_USER`,
    ///   `VALKEY_PASSWORD` (secret); `VALKEY_KEY_PREFIX` (mg)
    /// - `QDRANT_URL`, or `QDRANT_HOST` (127.0.0.1) and `QDRANT_PORT` (6333); `QDRANT_API_KEY` (secret),
    ///   `QDRANT_COLLECTION_PREFIX` (none)
    /// - `EMBEDDINGS_URL`, `EMBEDDINGS_MODEL` (text-embedding-3-small), `EMBEDDINGS_API_KEY` (secret),
    ///   `EMBEDDINGS_DIMENSIONS` (1...1536); `OPENROUTER_API_KEY` (secret)
    /// - `RECALL_DENSE_WEIGHT` (0.6, 0...1), `AUTO_CREATE_CLIENTS` (true), `AUTO_SETUP` (true), `API_KEYS` (secrets), `EVENTS_FOLLOW` (none)
    public init(reader: ConfigReader) throws(MemoryError) {
        self.init()
        let settings = Settings(reader: reader)
        try readEmbedded(settings)
        try readPostgres(settings)
        try readValkey(settings)
        try readQdrant(settings)
        try readEmbeddings(settings)
        denseWeight = try settings.double("RECALL_DENSE_WEIGHT", 0...1) ?? denseWeight
        createsClients = try settings.bool("AUTO_CREATE_CLIENTS") ?? createsClients
        setsUpStores = try settings.bool("AUTO_SETUP") ?? setsUpStores
        followedChannels = (settings.string("EVENTS_FOLLOW") ?? "").split(separator: ",").map {
            $0.filter { $0 != " " }
        }
        try readKeys(settings)
    }

    private mutating func readKeys(_ settings: Settings) throws(MemoryError) {
        guard let list = settings.secret("API_KEYS")?.revealed else { return }
        let keys = list.split(separator: ",").map { $0.filter { $0 != " " } }
        guard keys.allSatisfy({ $0.utf8.count >= 16 }) else {
            throw Settings.wrong("API_KEYS", "keys of at least 16 characters, with commas between")
        }
        apiKeys = keys.map { Secret($0) }
    }

    private mutating func readEmbedded(_ settings: Settings) throws(MemoryError) {
        records =
            settings.isAnySet(["DATABASE_URL", "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB"]) ? .server : .embedded
        vectors = settings.isAnySet(["QDRANT_URL", "QDRANT_HOST", "QDRANT_PORT"]) ? .server : .embedded
        shortTerm = settings.isAnySet(["VALKEY_URL", "VALKEY_HOST", "VALKEY_PORT"]) ? .server : .embedded
        if vectors == .embedded { budgets.allowForReadingVectors() }
        if let folder = settings.string("MEMORY_DATA_DIR") { embedded.path = folder + "/memory.db" }
        if let size = try settings.int("MEMORY_CACHE_MB", 1...100_000) { embedded.maxCacheBytes = size << 20 }
        if let size = try settings.int("MEMORY_VECTOR_CACHE_MB", 1...100_000) { embedded.maxVectorBytes = size << 20 }
    }

    private mutating func readPostgres(_ settings: Settings) throws(MemoryError) {
        if let url = settings.secret("DATABASE_URL") {
            guard url.revealed.hasPrefix("postgres://") || url.revealed.hasPrefix("postgresql://") else {
                throw Settings.wrong("DATABASE_URL", "a URL such as postgres://user:password@host:5432/database")
            }
            postgres.url = url
        }
        postgres.host = settings.string("POSTGRES_HOST") ?? postgres.host
        postgres.port = try settings.int("POSTGRES_PORT", 1...65_535) ?? postgres.port
        postgres.database = settings.string("POSTGRES_DB") ?? postgres.database
        postgres.user = settings.string("POSTGRES_USER") ?? postgres.user
        postgres.password = settings.secret("POSTGRES_PASSWORD")
        if let mode = settings.string("POSTGRES_SSLMODE") {
            guard let mode = PostgresConfiguration.SSLMode(rawValue: mode) else {
                let modes = PostgresConfiguration.SSLMode.allCases.map(\.rawValue)
                throw Settings.wrong("POSTGRES_SSLMODE", "one of \(modes.joined(separator: ", "))")
            }
            postgres.sslMode = mode
        }
        postgres.connections = try settings.int("POSTGRES_CONNECTIONS", 1...100) ?? postgres.connections
    }

    private mutating func readValkey(_ settings: Settings) throws(MemoryError) {
        valkey.host = settings.string("VALKEY_HOST") ?? valkey.host
        valkey.port = try settings.int("VALKEY_PORT", 1...65_535) ?? valkey.port
        valkey.database = try settings.int("VALKEY_DB", 0...10_000) ?? valkey.database
        valkey.username = settings.string("VALKEY_USER")
        valkey.password = settings.secret("VALKEY_PASSWORD")
        valkey.keyPrefix = settings.string("VALKEY_KEY_PREFIX") ?? valkey.keyPrefix
        guard let url = settings.secret("VALKEY_URL") else { return }
        guard let parts = URLComponents(string: url.revealed), let host = parts.host, !host.isEmpty,
            ["redis", "valkey"].contains(parts.scheme),
            let database = Int(parts.path.dropFirst().isEmpty ? "0" : parts.path.dropFirst()),
            (0...10_000).contains(database)
        else { throw Settings.wrong("VALKEY_URL", "a URL such as valkey://user:password@host:6379/0") }
        valkey.host = host
        valkey.port = parts.port ?? 6379
        valkey.database = database
        valkey.username = parts.user.flatMap { $0.isEmpty ? nil : $0 }
        valkey.password = parts.password.map { Secret($0) }
    }

    private mutating func readQdrant(_ settings: Settings) throws(MemoryError) {
        if let url = settings.string("QDRANT_URL") {
            qdrant.url = try Settings.http("QDRANT_URL", url)
        } else {
            let host = settings.string("QDRANT_HOST") ?? "127.0.0.1"
            let port = try settings.int("QDRANT_PORT", 1...65_535) ?? 6333
            qdrant.url = try Settings.http("QDRANT_HOST", "http://\(host):\(port)")
        }
        qdrant.apiKey = settings.secret("QDRANT_API_KEY")
        qdrant.collectionPrefix = settings.string("QDRANT_COLLECTION_PREFIX") ?? ""
        guard
            qdrant.collectionPrefix.utf8.allSatisfy({
                $0 == 0x5F || $0 == 0x2D || ($0 < 0x80 && Character(Unicode.Scalar($0)).isLetter)
                    || (0x30...0x39).contains($0)
            })
        else { throw Settings.wrong("QDRANT_COLLECTION_PREFIX", "letters, digits, - and _") }
    }

    private mutating func readEmbeddings(_ settings: Settings) throws(MemoryError) {
        if let url = settings.string("EMBEDDINGS_URL") {
            embeddings = EmbeddingsConfiguration(
                url: try Settings.http("EMBEDDINGS_URL", url),
                model: settings.string("EMBEDDINGS_MODEL") ?? "text-embedding-3-small",
                apiKey: settings.secret("EMBEDDINGS_API_KEY"))
        } else if let key = settings.secret("OPENROUTER_API_KEY") {
            embeddings = .openRouter(apiKey: key)
            if let model = settings.string("EMBEDDINGS_MODEL") { embeddings?.model = model }
        }
        let dimensions = try settings.int("EMBEDDINGS_DIMENSIONS", 1...Limits.dimensions)
        embeddings?.dimensions = dimensions
    }
}

/// Settings by the names of their environment variables.
package struct Settings {
    private let reader: ConfigReader

    package init(reader: ConfigReader) { self.reader = reader }

    package func string(_ name: String) -> String? { read(name, isSecret: false) }

    package func secret(_ name: String) -> Secret? { read(name, isSecret: true).map { Secret($0) } }

    /// Whether any of these has a value.
    func isAnySet(_ names: [String]) -> Bool { names.contains { secret($0) != nil } }

    /// `POSTGRES_HOST` is the key `postgres.host`.
    private func read(_ name: String, isSecret: Bool) -> String? {
        let key = ConfigKey(name.lowercased().split(separator: "_").map(String.init))
        let value = reader.string(forKey: key, isSecret: isSecret)
        return value?.isEmpty == false ? value : nil
    }

    package func int(_ name: String, _ range: ClosedRange<Int>) throws(MemoryError) -> Int? {
        guard let text = string(name) else { return nil }
        guard let value = Int(text), range.contains(value) else {
            throw Self.wrong(name, "a number between \(range.lowerBound) and \(range.upperBound)")
        }
        return value
    }

    package func double(_ name: String, _ range: ClosedRange<Double>) throws(MemoryError) -> Double? {
        guard let text = string(name) else { return nil }
        guard let value = Double(text), range.contains(value) else {
            throw Self.wrong(name, "a number between \(range.lowerBound) and \(range.upperBound)")
        }
        return value
    }

    package func bool(_ name: String) throws(MemoryError) -> Bool? {
        switch string(name)?.lowercased() {
        case nil: return nil
        case "true"?, "1"?, "yes"?, "on"?: return true
        case "false"?, "0"?, "no"?, "off"?: return false
        default: throw Self.wrong(name, "true or false")
        }
    }

    /// An `http` or `https` base, without the slash at its end.
    package static func http(_ name: String, _ text: String) throws(MemoryError) -> String {
        guard let parts = URLComponents(string: text), ["http", "https"].contains(parts.scheme),
            parts.host?.isEmpty == false, parts.query == nil, parts.user == nil
        else { throw wrong(name, "a URL such as http://127.0.0.1:6333") }
        var base = text
        while base.hasSuffix("/") { base.removeLast() }
        return base
    }

    package static func wrong(_ name: String, _ expected: String) -> MemoryError {
        MemoryError(.configuration, "\(name) must be \(expected)")
    }
}
