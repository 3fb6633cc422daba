import Foundation
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

/// The program itself, as an operator runs it.
@Suite("Program")
struct ProgramTests {
    private static let binary = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        .appendingPathComponent("memory-gateway")

    private func environment(_ world: TestWorld, _ extra: [String: String] = [:]) -> [String: String] {
        let configuration = world.configuration
        return [
            "POSTGRES_PORT": String(configuration.postgres.port), "POSTGRES_DB": configuration.postgres.database,
            "VALKEY_PORT": String(configuration.valkey.port), "VALKEY_KEY_PREFIX": configuration.valkey.keyPrefix,
            "QDRANT_URL": configuration.qdrant.url,
        ].merging(extra) { _, new in new }
    }

    /// Runs the program to its end.
    private func run(
        _ arguments: [String], _ world: TestWorld, _ extra: [String: String] = [:]
    ) async throws -> FinishedProgram {
        try await .run(Self.binary, arguments: arguments, environment: environment(world, extra))
    }

    /// Asks a gateway to end, and waits until it has.
    private func end(_ gateway: Process) async throws {
        gateway.terminate()
        try await blocking { gateway.waitUntilExit() }
    }

    /// Starts the gateway and waits until it is ready.
    private func serve(_ world: TestWorld, _ http: CurlClient, port: Int) async throws -> Process {
        let process = Process()
        process.executableURL = Self.binary
        process.environment = environment(world, ["API_PORT": String(port), "LOG_LEVEL": "warning"])
        process.standardError = FileHandle.nullDevice
        try process.run()
        try await world.eventually("the gateway is ready") {
            (try? await self.get(http, "http://127.0.0.1:\(port)/health/ready").status) == 200
        }
        return process
    }

    private func get(_ http: CurlClient, _ url: String) async throws(MemoryError) -> CurlReply {
        try await http.send(CurlRequest(method: .get, url: url, deadline: .after(.seconds(10))))
    }

    @Test("setup creates, then matches; --check tells a difference by its exit code", .timeLimit(.minutes(5)))
    func setup() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            let missing = try await run(["setup", "--check"], world)
            #expect(missing.status == 1)
            #expect(missing.output.contains("events: missing"))
            let created = try await run(["setup"], world)
            #expect(created.status == 0)
            #expect(created.output.split(separator: "\n").count == 4)
            #expect(created.output.split(separator: "\n").allSatisfy { $0.hasSuffix(": created") })
            for arguments in [["setup"], ["setup", "--check"]] {
                let again = try await run(arguments, world)
                #expect(again.status == 0)
                #expect(again.output.split(separator: "\n").allSatisfy { $0.hasSuffix(": matches") })
            }
        }
    }

    @Test(
        "migrate --dry-run changes nothing, migrate applies, and a second time there is nothing to do",
        .timeLimit(.minutes(5)))
    func migrate() async throws {
        try await TestWorld.with { world async throws in
            let database = "fresh_\(world.client)"
            try await world.execute("CREATE DATABASE \(database)")
            for (arguments, state) in [(["--dry-run"], "pending"), ([], "applied"), ([], "present")] {
                let result = try await run(["migrate"] + arguments, world, ["POSTGRES_DB": database])
                #expect(result.status == 0)
                #expect(result.output.split(separator: "\n").allSatisfy { $0.hasSuffix(": \(state)") })
                #expect(result.output.contains("002_planner_memory_schema.sql"))
            }
        }
    }

    @Test(
        "A wrong setting is one line that names the variable, and not its value", .timeLimit(.minutes(5)),
        arguments: [
            ["POSTGRES_PORT": "s3cret"], ["VALKEY_URL": "s3cret"], ["API_PORT": "s3cret"], ["LOG_LEVEL": "s3cret"],
        ])
    func wrongSettings(_ variables: [String: String]) async throws {
        try await TestWorld.with { world async throws in
            let result = try await run([], world, variables)
            #expect(result.status != 0)
            #expect(result.errors.contains("\(try #require(variables.keys.first)) must be"))
            #expect(!result.errors.contains("s3cret") && !result.output.contains("s3cret"))
            #expect(result.errors.split(separator: "\n").count == 1)
        }
    }

    @Test("The command line keeps an embedded memory, and carries it to another", .timeLimit(.minutes(5)))
    func commandLine() async throws {
        try await TestWorld.with(.embedded) { world async throws in
            func run(
                _ arguments: String..., folder: String = "a", input: String = ""
            ) async throws -> FinishedProgram {
                try await .run(
                    Self.binary, arguments: arguments, environment: ["MEMORY_DATA_DIR": "\(world.folder)/\(folder)"],
                    input: input)
            }
            func json(_ text: String) throws -> JSON { try JSON.parse(Array(text.utf8)) }

            // Nothing is there yet, and nothing is wrong.
            #expect(try await run("doctor").status == 0)
            let stored = try await run("remember", "Tea is at four", "--tag", "habit", "--json")
            #expect(stored.status == 0)
            let first = try json(stored.output)
            #expect(first["stored_in"] == ["sqlite", "embedded-vectors", "memory-cache"])
            #expect(try await run("remember", "Ada plays the piano", "-c", "2").status == 0)
            #expect(try await run("remember", "").status != 0)
            let found = try await run("recall", "when is tea?", "--json")
            #expect(try json(found.output).array?.first?["content"] == "Tea is at four")
            #expect(try await run("recall", "tea", "-c", "3").status == 1)
            let stats = try json(try await run("stats", "--json").output)
            #expect(stats["memories"] == 2 && stats["clients"] == 2 && stats["outbox_dead"] == 0)
            #expect(try await run("doctor").status == 0)

            let lines = try await run("export").output
            #expect(lines.split(separator: "\n").count == 2)
            let imported = try await run("import", "--json", folder: "b", input: lines + "nonsense\n")
            #expect(imported.status == 1)
            #expect(try json(imported.output) == ["stored": 2, "refused": 1])
            #expect(try await run("import", "--json", folder: "c", input: "\n" + lines + " \n\n").status == 0)
            let wrong = try await run("import", folder: "c", input: "\n\n{}\n\nnonsense\n")
            #expect(wrong.status == 1)
            #expect(wrong.errors.contains("line 3:") && wrong.errors.contains("line 5:"))
            let copy = try json(try await run("recall", "tea", "--json", folder: "b").output).array?.first
            #expect(copy?["content"] == "Tea is at four" && copy?["tags"] == ["habit"])
            #expect(copy?["created_at"] == first["created_at"])
            #expect(try json(try await run("reindex", "--json", folder: "b").output) == ["total": 2, "dead": 0])

            let id = try #require(first["memory_id"]?.int)
            #expect(try await run("forget", "\(id)", "99").status == 1)
            #expect(try await run("recall", "tea").status == 1)
            #expect(try await run("version").output == "\(GatewayVersion.current)\n")
        }
    }

    @Test("Every curl example of the documentation works, in order, on a fresh gateway", .timeLimit(.minutes(5)))
    func examples() async throws {
        try await TestWorld.with(.embedded) { world async throws in
            let http = try CurlClient(store: .sqlite, connections: 2)
            let port = try freePort()
            try FileManager.default.createDirectory(atPath: world.folder, withIntermediateDirectories: true)
            let gateway = Process()
            gateway.executableURL = Self.binary
            gateway.environment = ["API_PORT": String(port), "MEMORY_DATA_DIR": world.folder, "LOG_LEVEL": "error"]
            try gateway.run()
            try await world.eventually("the gateway is ready") {
                (try? await self.get(http, "http://127.0.0.1:\(port)/health/ready").status) == 200
            }
            var count = 0
            for file in ["README.md", "docs/api.md"] {
                let text = try String(contentsOf: TestServers.packageRoot.appendingPathComponent(file), encoding: .utf8)
                for block in text.components(separatedBy: "```sh\n").dropFirst() {
                    let command = block.components(separatedBy: "\n```")[0]
                    guard command.hasPrefix("curl ") else { continue }
                    let line = command.replacing("localhost:8090", with: "127.0.0.1:\(port)")
                        .replacing("curl ", with: "curl --fail-with-body --silent --show-error ", maxReplacements: 1)
                    let shell = try await FinishedProgram.run(
                        URL(fileURLWithPath: "/bin/bash"), arguments: ["-euc", line],
                        folder: URL(fileURLWithPath: world.folder))
                    // 28: the stream's time was up.
                    let expected: Int32 = command.contains("/stream") ? 28 : 0
                    #expect(shell.status == expected, "\(command): \(shell.output + shell.errors)")
                    #expect(!command.contains("/stream") || shell.output.contains("event: task.created"))
                    count += 1
                }
            }
            #expect(count > 35)
            try await end(gateway)
            await http.close()
        }
    }

    @Test("Keys are created, used, listed and revoked on the command line", .timeLimit(.minutes(5)))
    func keys() async throws {
        try await TestWorld.with { world async throws in
            let http = try CurlClient(store: .postgres, connections: 2)
            let port = try freePort()
            let created = try await run(["keys", "create", "planner", "--client", "7", "--read-only", "--json"], world)
            let json = try JSON.parse(Array(created.output.utf8))
            let key = try #require(json["key"]?.string)
            #expect(json["clients"] == [7] && json["can_write"] == false && json["can_share"] == false)
            let plain = try await run(["keys", "create", "other"], world)
            #expect(KeyText.isWellFormed(plain.output.trimmingCharacters(in: .newlines)))
            let listed = try await run(["keys", "list"], world).output
            #expect(listed.contains("planner") && listed.contains("clients 7") && !listed.contains(key))
            let gateway = try await serve(world, http, port: port)
            func status(_ client: Int) async throws -> Int {
                try await http.send(
                    CurlRequest(
                        method: .get, url: "http://127.0.0.1:\(port)/api/v1/memory/events?client_id=\(client)",
                        headers: ["X-API-Key: \(key)"], deadline: .after(.seconds(10)))
                ).status
            }
            #expect(try await status(7) == 200)
            #expect(try await status(8) == 403)
            #expect(try await run(["keys", "revoke", "\(json["id"]?.int ?? 0)"], world).status == 0)
            #expect(try await run(["keys", "revoke", "\(json["id"]?.int ?? 0)"], world).status != 0)
            try await world.eventually("the running gateway knows of it") { try await status(7) == 401 }
            try await end(gateway)
            await http.close()
        }
    }

    @Test("Beyond loopback it starts without keys only when asked to, and says what to do", .timeLimit(.minutes(5)))
    func beyondLoopback() async throws {
        try await TestWorld.with { world async throws in
            let port = String(try freePort())
            for (arguments, extra) in [
                ([], ["API_HOST": "0.0.0.0"]), (["serve", "--host", "::"], [:]),
                ([], ["API_HOST": "0.0.0.0", "ALLOW_ANONYMOUS": "false"]),
            ] as [([String], [String: String])] {
                let refused = try await run(arguments, world, extra.merging(["API_PORT": port]) { own, _ in own })
                #expect(refused.status != 0)
                for word in ["keys create", "API_KEYS", "ALLOW_ANONYMOUS=true"] {
                    #expect(refused.errors.contains(word), "\(word)")
                }
            }
            let doctor = try await run(["doctor"], world, ["API_HOST": "0.0.0.0"])
            #expect(doctor.status != 0 && doctor.output.contains("BAD  access: open"))
            #expect(try await run(["doctor"], world).output.contains("good access: open"))
            // With a key, live or ended, it starts: it is not open.
            let created = try await run(["keys", "create", "a", "--json"], world)
            let id = try #require(try JSON.parse(Array(created.output.utf8))["id"]?.int)
            #expect(try await run(["doctor"], world, ["API_HOST": "0.0.0.0"]).output.contains("good access: 0 keys"))
            let revoked = try await run(["keys", "revoke", "\(id)"], world)
            #expect(revoked.status == 0 && revoked.errors.contains("last live key"))
            #expect(try await run(["doctor"], world).output.contains("BAD  access: every key has ended"))
        }
    }

    @Test(
        "Every command has help", .timeLimit(.minutes(5)),
        arguments: [
            [], ["serve"], ["remember"], ["recall"], ["forget"], ["stats"], ["doctor"], ["export"], ["import"],
            ["keys"], ["keys", "create"], ["keys", "list"], ["keys", "revoke"], ["reindex"], ["migrate"], ["setup"],
            ["version"],
        ])
    func help(_ command: [String]) async throws {
        try await TestWorld.with { world async throws in
            let result = try await run(command + ["--help"], world)
            #expect(result.status == 0)
            #expect(result.output.contains("USAGE: memory-gateway"))
        }
    }

    @Test(
        "Killed under load, it has lost nothing that it answered, and indexes the rest after a restart",
        .timeLimit(.minutes(5)))
    func killed() async throws {
        try await TestWorld.with { world async throws in
            let http = try CurlClient(store: .postgres, connections: 32)
            let port = try freePort()
            let first = try await serve(world, http, port: port)
            let acknowledged = Shared<Set<Int64>>([])
            await withTaskGroup(of: Void.self) { group in
                for writer in 0..<16 {
                    group.addTask {
                        for number in 0..<40 {
                            let body =
                                #"{"client_id": \#(world.client), "content": "writer \#(writer) number \#(number)"}"#
                            let reply = try? await http.send(
                                CurlRequest(
                                    method: .post, url: "http://127.0.0.1:\(port)/api/v1/memory/remember",
                                    headers: ["Content-Type: application/json"], body: Array(body.utf8),
                                    deadline: .after(.seconds(10))))
                            guard let reply, reply.status == 200 || reply.status == 207,
                                let id = (try? JSON.parse(reply.body))?["memory_id"]?.int
                            else { continue }
                            let count = acknowledged.withLock { acknowledged in
                                acknowledged.insert(id)
                                return acknowledged.count
                            }
                            if count == 100 { kill(first.processIdentifier, SIGKILL) }
                        }
                    }
                }
            }
            try await blocking { first.waitUntilExit() }
            let count = acknowledged.value.count
            #expect(count >= 100 && count < 640)
            let ids = try await world.execute("SELECT id FROM events").compactMap { $0[0].flatMap { Int64($0) } }
            #expect(acknowledged.value.isSubset(of: Set(ids)))
            let second = try await serve(world, http, port: port)
            try await world.eventually("everything is indexed") {
                try await world.execute("SELECT count(*) FROM memory_outbox") == [["0"]]
            }
            let client = try QdrantClient(world.configuration.qdrant)
            let body: JSON = ["ids": .array(ids.map(JSON.int))]
            let points = try await client.send(
                .post, "/collections/events/points", body: body.encoded, deadline: .after(.seconds(10)))
            #expect(Set((points.array ?? []).compactMap { $0["id"]?.int }) == Set(ids))
            await client.close()
            try await end(second)
            #expect(second.terminationReason == .exit && second.terminationStatus == 0)
            await http.close()
        }
    }
}
