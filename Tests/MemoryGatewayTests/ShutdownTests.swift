import Foundation
import Glibc
import MemoryTestSupport
import Testing

@testable import MemoryCore

@Suite("Shutdown")
struct ShutdownTests {
    /// A connection to the gateway, without a client library that would try again.
    private struct Connection {
        let socket: Int32

        init(port: Int) throws {
            socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = in_port_t(port).bigEndian
            address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
            let result = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            try #require(result == 0)
            var limit = timeval(tv_sec: 20, tv_usec: 0)
            setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        }

        func send(_ text: String) {
            _ = text.utf8CString.withUnsafeBytes { Glibc.send(socket, $0.baseAddress, text.utf8.count, 0) }
        }

        /// The beginning of the answer; empty when the connection was reset.
        func receive() -> String {
            var bytes = [UInt8](repeating: 0, count: 64)
            let count = recv(socket, &bytes, bytes.count, 0)
            close(socket)
            return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        }
    }

    @Test("What was sent before SIGTERM is answered", .timeLimit(.minutes(5)))
    func sentBefore() async throws {
        try await TestWorld.with(.embedded) { world async throws in
            let http = try CurlClient(store: .sqlite, connections: 2)
            let port = try freePort()
            // Whoever was reset is told by the answer that is missing.
            signal(SIGPIPE, SIG_IGN)
            for _ in 0..<3 {
                let process = Process()
                process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
                    .appendingPathComponent("memory-gateway")
                process.environment = ["MEMORY_DATA_DIR": world.folder, "API_PORT": "\(port)"]
                (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
                try FileManager.default.createDirectory(atPath: world.folder, withIntermediateDirectories: true)
                try process.run()
                try await world.eventually("it listens") {
                    let request = CurlRequest(
                        method: .get, url: "http://127.0.0.1:\(port)/health/live", deadline: .after(.seconds(2)))
                    return (try? await http.send(request))?.status == 200
                }
                let connections = try (0..<20).map { _ in try Connection(port: port) }
                for connection in connections {
                    connection.send("GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                }
                process.terminate()
                let answers = connections.map { $0.receive() }
                #expect(answers.count { $0.hasPrefix("HTTP/1.1 200") } == 20)
                try await world.eventually("it has ended") { !process.isRunning }
            }
            await http.close()
        }
    }
}
