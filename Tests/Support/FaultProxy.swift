import Foundation

/// A TCP proxy before a server of a test, which fails on purpose; `fault_proxy.py` says how.
package enum FaultProxy {
    /// Runs the proxy while the test runs; `test` gets its port.
    package static func with<Result>(
        target: Int, fault: String, _ test: (_ port: Int) async throws -> Result
    ) async throws -> Result {
        let (process, port) = try await blocking { try launch(target, fault) }
        defer {
            // A child of the test runner may have SIGTERM blocked.
            kill(process.processIdentifier, SIGKILL)
        }
        return try await test(port)
    }

    private static func launch(_ target: Int, _ fault: String) throws -> (Process, port: Int) {
        let process = Process()
        process.executableURL = TestServers.packageRoot.appendingPathComponent(".venv-test/bin/python")
        process.arguments = [
            TestServers.packageRoot.appendingPathComponent("Tests/Support/fault_proxy.py").path, String(target), fault,
        ]
        let (input, output) = (Pipe(), Pipe())
        (process.standardInput, process.standardOutput) = (input, output)
        try process.run()
        guard let port = Int(String(decoding: try output.readLine(), as: UTF8.self)) else {
            throw TestServers.Failure(description: "the proxy did not start")
        }
        return (process, port)
    }
}
