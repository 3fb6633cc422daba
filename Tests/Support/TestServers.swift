package import Foundation

/// Real servers for the tests, through `servers.py`. They end with the process that runs the tests, however it ends.
package actor TestServers {
    /// The one that all tests share.
    package static let shared = TestServers()

    /// A server: one of the shared three, or one more of the kind that a test may stop and kill.
    package struct Name: Sendable, Hashable {
        let text: String

        package static let postgres = Name(text: "postgres")
        package static let valkey = Name(text: "valkey")
        package static let qdrant = Name(text: "qdrant")

        /// A server of the same kind that nobody else uses.
        package var own: Name { Name(text: "\(text)-\(UUID().uuidString.prefix(8))") }
    }

    /// What can be done to a server.
    package enum Verb: String, Sendable {
        case start, stop, kill, pause, resume
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private var process: Process?
    private let input = Pipe()
    private let output = Pipe()
    private var ports: [Name: Int] = [:]

    /// The folder of this package.
    package static let packageRoot = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Does something to a server, and answers its port.
    @discardableResult
    package func perform(_ verb: Verb, _ name: Name) throws -> Int {
        try launch()
        let order = #"{"do": "\#(verb.rawValue)", "server": "\#(name.text)"}"# + "\n"
        try input.fileHandleForWriting.write(contentsOf: Data(order.utf8))
        var line = Data()
        while let byte = try output.fileHandleForReading.read(upToCount: 1), byte != Data([0x0A]) { line += byte }
        guard let answer = try JSONSerialization.jsonObject(with: line) as? [String: Any],
            let port = answer["port"] as? Int
        else { throw Failure(description: String(decoding: line, as: UTF8.self)) }
        ports[name] = port
        return port
    }

    /// The port of a server, which is started when it is asked for first.
    package func port(_ name: Name) throws -> Int { try ports[name] ?? perform(.start, name) }

    private func launch() throws {
        guard process == nil else { return }
        let python = Self.packageRoot.appendingPathComponent(".venv-test/bin/python")
        guard FileManager.default.isExecutableFile(atPath: python.path) else {
            throw Failure(description: "The tests need .venv-test: run them with 'make test'")
        }
        let process = Process()
        process.executableURL = python
        process.arguments = [
            Self.packageRoot.appendingPathComponent("Tests/Support/servers.py").path, "control",
        ]
        // When this process ends, so does the pipe, and with it the servers.
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        self.process = process
    }
}
