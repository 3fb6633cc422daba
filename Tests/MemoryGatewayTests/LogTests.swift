import Foundation
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

/// What the program says, and what becomes of it when nobody listens.
@Suite("Log")
struct LogTests {
    private static let binary = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        .appendingPathComponent("memory-gateway")

    /// A gateway whose standard error a test holds.
    private func start(
        _ world: TestWorld, log: Any, shell: [String]? = nil, extra: [String: String] = [:]
    ) throws -> (Process, Int) {
        let configuration = world.configuration
        let port = try freePort()
        let process = Process()
        process.executableURL = shell == nil ? Self.binary : URL(fileURLWithPath: "/bin/sh")
        process.arguments = shell ?? []
        process.environment = [
            "POSTGRES_PORT": String(configuration.postgres.port), "POSTGRES_DB": configuration.postgres.database,
            "VALKEY_PORT": String(configuration.valkey.port), "VALKEY_KEY_PREFIX": configuration.valkey.keyPrefix,
            "QDRANT_URL": configuration.qdrant.url, "API_PORT": String(port),
        ].merging(extra) { _, new in new }
        process.standardError = log
        try process.run()
        return (process, port)
    }

    private func status(_ http: CurlClient, _ port: Int, _ path: String) async -> Int? {
        try? await http.send(
            CurlRequest(method: .get, url: "http://127.0.0.1:\(port)\(path)", deadline: .after(.seconds(10)))
        ).status
    }

    private func lines(_ data: Data) -> [JSONObject] {
        data.split(separator: 0x0A).compactMap { (try? JSON.parse(Array($0)))?.object }
    }

    @Test("A log that nobody reads stops nothing; what was dropped is counted and said", .timeLimit(.minutes(5)))
    func unread() async throws {
        try await TestWorld.with { world async throws in
            let http = try CurlClient(store: .postgres, connections: 16)
            let pipe = Pipe()
            // Full from the beginning: the first line already waits.
            let writer = pipe.fileHandleForWriting.fileDescriptor
            _ = fcntl(writer, F_SETFL, fcntl(writer, F_GETFL) | O_NONBLOCK)
            let filler = [UInt8](repeating: 0x0A, count: 4096)
            while filler.withUnsafeBytes({ write(writer, $0.baseAddress, $0.count) }) > 0 {}
            _ = fcntl(writer, F_SETFL, fcntl(writer, F_GETFL) & ~O_NONBLOCK)
            let (gateway, port) = try start(world, log: pipe, extra: ["LOG_LEVEL": "debug"])
            try await world.eventually("the gateway is ready") {
                await status(http, port, "/health/ready") == 200
            }
            try await world.eventually("lines are dropped") {
                try await withThrowingTaskGroup(of: Int?.self) { group in
                    for _ in 0..<16 {
                        group.addTask {
                            for _ in 0..<50 { _ = await status(http, port, "/api/v1/memory/events/x") }
                            return await status(http, port, "/health/live")
                        }
                    }
                    for try await status in group { #expect(status == 200) }
                }
                let metrics = try await http.send(
                    CurlRequest(method: .get, url: "http://127.0.0.1:\(port)/metrics", deadline: .after(.seconds(10))))
                let text = String(decoding: metrics.body, as: UTF8.self)
                let count = text.firstMatch(of: /memory_gateway_log_dropped_total ([0-9.]+)/).flatMap { Double($0.1) }
                return (count ?? 0) > 0
            }
            let read = Task.detached {
                try await blocking { () throws -> Data in
                    var all = Data()
                    while !all.suffix(16 << 10).contains("were dropped") {
                        let some = pipe.fileHandleForReading.availableData
                        if some.isEmpty { break }
                        all += some
                    }
                    return all
                }
            }
            let said = lines(try await read.value)
            #expect(said.contains { $0["message"]?.string?.contains("were dropped") == true && $0["count"] != nil })
            #expect(said.contains { $0["message"] == "Listening" })
            gateway.terminate()
            try await blocking { gateway.waitUntilExit() }
            #expect(gateway.terminationReason == .exit && gateway.terminationStatus == 0)
            await http.close()
        }
    }

    @Test("SIGTERM ends a gateway whose log nobody reads", .timeLimit(.minutes(5)))
    func unreadAtTheEnd() async throws {
        try await TestWorld.with { world async throws in
            let http = try CurlClient(store: .postgres, connections: 1)
            let pipe = Pipe()
            let (gateway, port) = try start(world, log: pipe, extra: ["LOG_LEVEL": "trace"])
            try await world.eventually("the gateway is ready") {
                await status(http, port, "/health/ready") == 200
            }
            for _ in 0..<400 { _ = await status(http, port, "/api/v1/memory/events/x") }
            gateway.terminate()
            try await blocking { gateway.waitUntilExit() }
            #expect(gateway.terminationReason == .exit && gateway.terminationStatus == 0)
            await http.close()
        }
    }

    @Test(
        "A stop is logged, with its signal and its end; SIGHUP is one, unless it was ignored from the start",
        .timeLimit(.minutes(5)))
    func stop() async throws {
        try await TestWorld.with { world async throws in
            let http = try CurlClient(store: .postgres, connections: 1)
            for (signal, isIgnored) in [(SIGTERM, false), (SIGHUP, false), (SIGTERM, true)] {
                let pipe = Pipe()
                // As `nohup` starts it.
                let shell = isIgnored ? ["-c", "trap '' HUP; exec \(Self.binary.path)"] : nil
                let (gateway, port) = try start(world, log: pipe, shell: shell)
                try await world.eventually("the gateway is ready") {
                    await status(http, port, "/health/ready") == 200
                }
                if isIgnored {
                    kill(gateway.processIdentifier, SIGHUP)
                    for _ in 0..<20 { #expect(await status(http, port, "/health/live") == 200) }
                }
                kill(gateway.processIdentifier, signal)
                try await blocking { gateway.waitUntilExit() }
                #expect(gateway.terminationReason == .exit && gateway.terminationStatus == 0)
                try pipe.fileHandleForWriting.close()
                let said = lines(try pipe.fileHandleForReading.readToEnd() ?? Data())
                let stopping = said.last { $0["message"] == "Stopping" }
                #expect(stopping?["name"]?.string == (signal == SIGTERM ? "SIGTERM" : "SIGHUP"))
                #expect(stopping?["count"] == "0")
                #expect(said.last?["message"] == "Stopped")
            }
            await http.close()
        }
    }

    @Test("An outage of each store is a few lines, however many requests it refuses", .timeLimit(.minutes(5)))
    func outages() async throws {
        try await TestWorld.with(own: [.postgres, .qdrant, .valkey]) { world async throws in
            let http = try CurlClient(store: .postgres, connections: 8)
            let file = FileManager.default.temporaryDirectory.appendingPathComponent("log-\(UUID().uuidString)")
            FileManager.default.createFile(atPath: file.path, contents: nil)
            defer { try? FileManager.default.removeItem(at: file) }
            let (gateway, port) = try start(world, log: try FileHandle(forWritingTo: file))
            try await world.eventually("the gateway is ready") {
                await status(http, port, "/health/ready") == 200
            }
            func said() throws -> [String] { lines(try Data(contentsOf: file)).compactMap { $0["message"]?.string } }
            func ask(_ number: Int) async -> Int? {
                await status(http, port, "/api/v1/memory/recall?client_id=\(world.client)&query=tea+\(number)")
            }
            for (server, verb) in [
                (TestServers.Name.qdrant, TestServers.Verb.pause), (.valkey, .kill), (.postgres, .kill),
            ] {
                let before = try said().count
                try await world.perform(verb, server)
                let asked = Shared(0)
                try await world.eventually("\(server) is said to be away") {
                    asked.withLock { $0 += 1 }
                    _ = await ask(asked.value)
                    return try said()[before...].contains("\(server.text) is away")
                }
                for number in 0..<100 { _ = await ask(1000 + number) }
                try await world.perform(verb == .pause ? .resume : .start, server)
                try await world.eventually("\(server) is said to be back") {
                    asked.withLock { $0 += 1 }
                    _ = await ask(asked.value)
                    return try said()[before...].contains("\(server.text) is back")
                }
                let during = try said()[before...]
                #expect(during.count <= 12, "\(during)")
                #expect(!during.contains("A request failed"))
            }
            gateway.terminate()
            try await blocking { gateway.waitUntilExit() }
            await http.close()
        }
    }
}

extension Data {
    fileprivate func contains(_ text: String) -> Bool { range(of: Data(text.utf8)) != nil }
}
