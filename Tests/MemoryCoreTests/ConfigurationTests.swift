import Configuration
import Foundation
import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Configuration")
struct ConfigurationTests {
    private func read(_ variables: [String: String]) throws -> MemoryConfiguration {
        try MemoryConfiguration(
            reader: ConfigReader(provider: EnvironmentVariablesProvider(environmentVariables: variables)))
    }

    @Test("Nothing set, or set to nothing, gives servers on this machine and the lexical embedder")
    func defaults() throws {
        for variables in [[:], ["POSTGRES_HOST": "", "VALKEY_PORT": "", "EMBEDDINGS_URL": "", "DATABASE_URL": ""]] {
            let configuration = try read(variables)
            #expect(configuration.postgres.host == "127.0.0.1")
            #expect(configuration.postgres.port == 5432)
            #expect(configuration.valkey.port == 6379)
            #expect(configuration.qdrant.url == "http://127.0.0.1:6333")
            #expect(configuration.qdrant.collectionPrefix.isEmpty)
            #expect(configuration.embeddings == nil)
            #expect(configuration.createsClients)
        }
    }

    @Test("A store is a server when one of its variables is set, and embedded when none is")
    func places() throws {
        let nothing = try read(["MEMORY_DATA_DIR": "/data", "MEMORY_CACHE_MB": "5", "MEMORY_VECTOR_CACHE_MB": "7"])
        #expect([nothing.records, nothing.vectors, nothing.shortTerm] == [.embedded, .embedded, .embedded])
        #expect(nothing.embedded.path == "/data/memory.db")
        #expect(nothing.embedded.maxCacheBytes == 5 << 20 && nothing.embedded.maxVectorBytes == 7 << 20)
        for name in ["DATABASE_URL", "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB"] {
            let value = ["DATABASE_URL": "postgres://h/d", "POSTGRES_PORT": "1"][name] ?? "x"
            let settings = try read([name: value])
            #expect([settings.records, settings.vectors, settings.shortTerm] == [.server, .embedded, .embedded])
        }
        #expect(try read(["QDRANT_URL": "http://h:1"]).vectors == .server)
        #expect(try read(["VALKEY_PORT": "1"]).shortTerm == .server)
    }

    @Test("Every variable reaches its setting")
    func all() throws {
        let configuration = try read([
            "POSTGRES_HOST": "pg", "POSTGRES_PORT": "5433", "POSTGRES_DB": "memory", "POSTGRES_USER": "mg",
            "POSTGRES_PASSWORD": "secret", "QDRANT_HOST": "qdrant", "QDRANT_PORT": "7333", "QDRANT_API_KEY": "key",
            "EMBEDDINGS_URL": "http://ollama:11434/v1/", "EMBEDDINGS_MODEL": "nomic-embed-text",
            "EMBEDDINGS_DIMENSIONS": "768", "AUTO_CREATE_CLIENTS": "false", "RECALL_DENSE_WEIGHT": "0.8",
            "VALKEY_HOST": "cache", "VALKEY_DB": "3", "VALKEY_PASSWORD": "word",
        ])
        #expect(configuration.postgres.host == "pg")
        #expect(configuration.postgres.database == "memory")
        #expect(configuration.postgres.password?.revealed == "secret")
        #expect(configuration.qdrant.url == "http://qdrant:7333")
        #expect(configuration.qdrant.apiKey?.revealed == "key")
        #expect(configuration.embeddings?.url == "http://ollama:11434/v1")
        #expect(configuration.embeddings?.dimensions == 768)
        #expect(!configuration.createsClients)
        #expect(configuration.denseWeight == 0.8)
        #expect(configuration.valkey.database == 3)
        #expect(configuration.valkey.password?.revealed == "word")
    }

    @Test("URLs stand for the parts", arguments: ["redis", "valkey"])
    func urls(_ scheme: String) throws {
        let configuration = try read([
            "VALKEY_URL": "\(scheme)://me:p%40ss@cache:6380/2", "DATABASE_URL": "postgresql://u:p@h/d",
        ])
        #expect(configuration.valkey.host == "cache")
        #expect(configuration.valkey.port == 6380)
        #expect(configuration.valkey.database == 2)
        #expect(configuration.valkey.username == "me")
        #expect(configuration.valkey.password?.revealed == "p@ss")
        #expect(configuration.postgres.url?.revealed == "postgresql://u:p@h/d")
    }

    @Test("OpenRouter is the provider when only its key is set")
    func openRouter() throws {
        let configuration = try read(["OPENROUTER_API_KEY": "or-key"])
        #expect(configuration.embeddings?.url == "https://openrouter.ai/api/v1")
        #expect(configuration.embeddings?.model == "openai/text-embedding-3-small")
        #expect(configuration.embeddings?.apiKey?.revealed == "or-key")
    }

    @Test(
        "A wrong value is one line that names the variable and hides the value",
        arguments: [
            ("POSTGRES_PORT", "s3cret"), ("POSTGRES_PORT", "0"), ("POSTGRES_PORT", "65536"),
            ("VALKEY_URL", "http://s3cret"),
            ("VALKEY_URL", "redis://:s3cret@/0"), ("VALKEY_URL", "redis://h/s3cret"),
            ("DATABASE_URL", "mysql://u:s3cret@h/d"),
            ("QDRANT_URL", "qdrant-s3cret"), ("QDRANT_URL", "http://user:s3cret@host"), ("QDRANT_PORT", "-1"),
            ("EMBEDDINGS_URL", "ftp://s3cret"), ("AUTO_SETUP", "perhaps"), ("RECALL_DENSE_WEIGHT", "1.5"),
            ("QDRANT_COLLECTION_PREFIX", "a/b"),
        ])
    func wrong(_ name: String, _ value: String) throws {
        var variables = [name: value]
        if name == "EMBEDDINGS_DIMENSIONS" { variables["EMBEDDINGS_URL"] = "http://h/v1" }
        let error = try #require(throws: MemoryError.self) { try read(variables) }
        #expect(error.code == .configuration)
        #expect(error.message.hasPrefix("\(name) must be "))
        for text in [error.message, "\(error)", error.debugDescription, String(reflecting: error)] {
            #expect(!text.contains("s3cret"))
            #expect(!text.contains("\n"))
        }
    }

    @Test("A secret cannot be printed in any way")
    func secret() {
        let secret = Secret("hunter2")
        var configuration = PostgresConfiguration()
        configuration.password = secret
        var dumped = ""
        dump(configuration, to: &dumped)
        for text in [
            "\(secret)", String(reflecting: secret), "\(configuration)", String(reflecting: configuration), dumped,
        ] {
            #expect(!text.contains("hunter2"))
        }
    }

    @Test("Every variable that is read stands in .env.template")
    func template() throws {
        let root = TestServers.packageRoot
        let template = try String(contentsOf: root.appendingPathComponent(".env.template"), encoding: .utf8)
        var names: Set<String> = []
        for file in [
            "Sources/MemoryCore/MemoryConfiguration+Environment.swift",
            "Sources/MemoryGateway/Server/GatewayConfiguration.swift",
        ] {
            let source = try String(contentsOf: root.appendingPathComponent(file), encoding: .utf8)
            let pattern = try Regex(#"(?:string|secret|int|double|bool)\("([A-Z_]+)""#)
            for match in source.matches(of: pattern) { names.insert(String(match[1].substring ?? "")) }
        }
        #expect(names.count > 20)
        let compose = try String(contentsOf: root.appendingPathComponent("deploy/docker-compose.yml"), encoding: .utf8)
        for match in compose.matches(of: try Regex(#"\$\{([A-Z_]+)"#)) {
            names.insert(String(match[1].substring ?? ""))
        }
        for name in names { #expect(template.contains("\(name)="), "\(name) is not in .env.template") }
    }
}

@Suite("Bundled files")
struct BundledFileTests {
    @Test("What is built in is what the folders hold", arguments: ["migrations", "migrations/sqlite", "collections"])
    func matches(_ folder: String) throws {
        let url = TestServers.packageRoot.appendingPathComponent(folder)
        let bundled =
            switch folder {
            case "migrations": BundledFiles.migrations
            case "collections": BundledFiles.collections
            default: BundledFiles.sqliteMigrations
            }
        let names = try FileManager.default.contentsOfDirectory(atPath: url.path).filter { $0.contains(".") }
        #expect(names.sorted() == bundled.map(\.name))
        for file in bundled {
            let text = try String(contentsOf: url.appendingPathComponent(file.name), encoding: .utf8)
            #expect(text.trimmingCharacters(in: .newlines) == file.text.trimmingCharacters(in: .newlines))
        }
    }

    @Test("The four collections are declared as the specification says")
    func collections() throws {
        let definitions = try CollectionDefinition.bundled()
        #expect(Set(definitions.map(\.name)) == ["doc_chunks", "events", "agent_memories", "daily_threads"])
        let fields = [
            "events": ["event_id", "event_type", "client_id", "created_at"],
            "agent_memories": ["memory_id", "client_id", "memory_type", "extracted_at"],
            "daily_threads": ["reflection_id", "reflection_date", "client_id"],
        ]
        for definition in definitions {
            #expect(definition.size == 1536)
            #expect(definition.distance == "Cosine")
            #expect(definition.onDiskPayload)
            #expect(definition.sparseVectors["text"]?["modifier"] == "idf")
            #expect(definition.payloadIndexes["client_id"]?["is_principal"] == true)
            for field in fields[definition.name] ?? [] { #expect(definition.payloadIndexes[field] != nil) }
        }
    }

    @Test(
        "A wrong definition names the file and the key",
        arguments: [
            (#"{"version": 1, "name": "x", "colour": 1}"#, "unknown key colour"), (#"{"version": 2}"#, "version"),
            (#"{"version": 1, "name": "y"}"#, "name"), ("[]", "object"), ("{", "byte"),
            (#"{"version": 1, "name": "x", "name": "x"}"#, "twice"),
        ])
    func wrong(_ text: String, _ expected: String) throws {
        let error = try #require(throws: MemoryError.self) {
            try CollectionDefinition(BundledFile(name: "x.json", text: text))
        }
        #expect(error.message.contains("collections/x.json"))
        #expect(error.message.contains(expected))
    }
}
