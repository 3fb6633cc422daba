import Foundation

/// A TCP proxy before a server of a test, which fails on purpose; `fault_proxy.py` says how.
package enum FaultProxy {
    /// Runs the proxy while the test runs; `test` gets its port.
    package static func with<Result>(
        target: Int, fault: String, _ test: (_ port: Int) async throws -> Result
    ) async throws -> Result {
        let process = Process()
        process.executableURL = TestServers.packageRoot.appendingPathComponent(".venv-test/bin/python")
        process.arguments = [
            TestServers.packageRoot.appendingPathComponent("Tests/Support/fault_proxy.py").path, String(target), fault,
        ]
        let (input, output) = (Pipe(), Pipe())
        (process.standardInput, process.standardOutput) = (input, output)
        try process.run()
        var line = Data()
        while let byte = try output.fileHandleForReading.read(upToCount: 1), byte != Data([0x0A]) { line += byte }
        guard let port = Int(String(decoding: line, as: UTF8.self)) else {
            throw TestServers.Failure(description: "the proxy did not start")
        }
        defer {
            // A child of the test runner may have SIGTERM blocked.
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        return try await test(port)
    }
}
