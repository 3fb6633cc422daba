package import Foundation
import Synchronization

/// Real servers for the tests, through `servers.py`. They end with the process that runs the tests, however it ends.
package final class TestServers: Sendable {
    /// The one that all tests share.
    package static let shared = TestServers()

    /// A server: one of the shared three, or one more of the kind that a test may stop and kill.
    package struct Name: Sendable, Hashable {
        package let text: String

        package static let postgres = Name(text: "postgres")
        package static let valkey = Name(text: "valkey")
        package static let qdrant = Name(text: "qdrant")

        /// A server of the same kind that nobody else uses.
        package var own: Name { Name(text: "\(text)-\(UUID().uuidString.prefix(8))") }
    }

    /// What can be done to a server.
    package enum Verb: String, Sendable {
        case start, stop, kill, pause, resume, promote
        /// A new PostgreSQL becomes a standby of another, and starts.
        case follow
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// The script, while one order is carried out.
    fileprivate struct Control {
        var process: Process?
        let input = Pipe()
        let output = Pipe()
        var ports: [Name: Int] = [:]
    }

    private let control = Mutex(Control())

    /// The folder of this package.
    package static let packageRoot = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Does something to a server, and answers its port.
    @discardableResult
    package func perform(_ verb: Verb, _ name: Name, of other: Name? = nil) async throws -> Int {
        try await blocking { try self.control.withLock { try $0.perform(verb, name, of: other) } }
    }

    /// The port of a server, which is started when it is asked for first.
    package func port(_ name: Name) async throws -> Int {
        try await blocking { try self.control.withLock { try $0.ports[name] ?? $0.perform(.start, name) } }
    }
}

extension TestServers.Control {
    fileprivate mutating func perform(
        _ verb: TestServers.Verb, _ name: TestServers.Name, of other: TestServers.Name? = nil
    ) throws -> Int {
        try launch()
        let of = other.map { #", "of": "\#($0.text)""# } ?? ""
        let order = #"{"do": "\#(verb.rawValue)", "server": "\#(name.text)"\#(of)}"# + "\n"
        try input.fileHandleForWriting.write(contentsOf: Data(order.utf8))
        let line = try output.readLine()
        guard let answer = try JSONSerialization.jsonObject(with: line) as? [String: Any],
            let port = answer["port"] as? Int
        else { throw TestServers.Failure(description: String(decoding: line, as: UTF8.self)) }
        ports[name] = port
        return port
    }

    private mutating func launch() throws {
        guard process == nil else { return }
        let python = TestServers.packageRoot.appendingPathComponent(".venv-test/bin/python")
        guard FileManager.default.isExecutableFile(atPath: python.path) else {
            throw TestServers.Failure(description: "The tests need .venv-test: run them with 'make test'")
        }
        let process = Process()
        process.executableURL = python
        process.arguments = [
            TestServers.packageRoot.appendingPathComponent("Tests/Support/servers.py").path, "control",
        ]
        // When this process ends, so does the pipe, and with it the servers.
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        self.process = process
    }
}

extension Pipe {
    /// The next line, without its end.
    func readLine() throws -> Data {
        var line = Data()
        while let byte = try fileHandleForReading.read(upToCount: 1), byte != Data([0x0A]) { line += byte }
        return line
    }
}
