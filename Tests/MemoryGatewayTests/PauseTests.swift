import Foundation
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

/// The kernel stops a process that has used up its share of the processor; so does this test.
@Suite("Pauses")
struct PauseTests {
    private static let binary = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        .appendingPathComponent("memory-gateway")

    @Test(
        "A gateway that is stopped again and again under load, with healthy stores, fails nothing and blames nobody",
        .timeLimit(.minutes(5)))
    func stopped() async throws {
        try await TestWorld.with { world async throws in
            let port = try freePort()
            let log = URL(fileURLWithPath: "/tmp/memory-pauses-\(UUID().uuidString).log")
            FileManager.default.createFile(atPath: log.path, contents: nil)
            defer { try? FileManager.default.removeItem(at: log) }
            let gateway = Process()
            gateway.executableURL = Self.binary
            gateway.arguments = []
            gateway.environment = [
                "POSTGRES_PORT": String(world.configuration.postgres.port),
                "POSTGRES_DB": world.configuration.postgres.database,
                "VALKEY_PORT": String(world.configuration.valkey.port),
                "VALKEY_KEY_PREFIX": world.configuration.valkey.keyPrefix,
                "QDRANT_URL": world.configuration.qdrant.url, "API_PORT": String(port), "LOG_LEVEL": "info",
            ]
            gateway.standardError = try FileHandle(forWritingTo: log)
            gateway.standardOutput = FileHandle.nullDevice
            try gateway.run()
            defer {
                kill(gateway.processIdentifier, SIGKILL)
            }
            let http = try CurlClient(store: .postgres, connections: 32)
            @Sendable func ask(_ method: CurlRequest.Method, _ path: String, _ body: String = "") async throws
                -> CurlReply
            {
                try await http.send(
                    CurlRequest(
                        method: method, url: "http://127.0.0.1:\(port)\(path)",
                        headers: ["Content-Type: application/json"], body: Array(body.utf8),
                        deadline: .after(.seconds(20))))
            }
            try await world.eventually("the gateway is ready") {
                (try? await ask(.get, "/health/ready").status) == 200
            }
            let (wrong, isOver, count) = (Shared<[String]>([]), Shared(false), Shared(0))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for caller in 0..<4 {
                    group.addTask {
                        let client = world.client + caller
                        var number = 0
                        while !isOver.value {
                            number += 1
                            let replies = [
                                try await ask(
                                    .post, "/api/v1/memory/remember",
                                    #"{"client_id": \#(client), "content": "tea \#(number)"}"#),
                                try await ask(
                                    .post, "/api/v1/memory/recall",
                                    #"{"client_id": \#(client), "query": "tea \#(number % 7)"}"#),
                                try await ask(
                                    .post, "/api/v1/memory/sessions/s\(caller)/messages",
                                    #"{"client_id": \#(client), "messages": [{"role": "user", "content": "x"}]}"#),
                            ]
                            for reply in replies {
                                count.withLock { $0 += 1 }
                                let text = String(decoding: reply.body, as: UTF8.self)
                                let isDegraded = (try? JSON.parse(reply.body))?["degraded"] == true
                                if !(200..<300).contains(reply.status) || reply.status == 207 || isDegraded {
                                    wrong.withLock { $0.append("\(reply.status) \(text.prefix(300))") }
                                }
                            }
                        }
                    }
                }
                group.addTask {
                    for _ in 0..<25 {
                        try await Task.sleep(for: .milliseconds(120))
                        kill(gateway.processIdentifier, SIGSTOP)
                        try await Task.sleep(for: .milliseconds(150))
                        kill(gateway.processIdentifier, SIGCONT)
                    }
                    isOver.value = true
                }
                try await group.waitForAll()
            }
            #expect(wrong.value == [])
            #expect(count.value > 100)
            #expect(try await ask(.get, "/health").status == 200, "calm at once")
            let text = try String(contentsOf: log, encoding: .utf8)
            #expect(!text.contains("away") && !text.contains("unavailable"), "\(text)")
            await http.close()
        }
    }
}
