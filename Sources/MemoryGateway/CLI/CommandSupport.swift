import ArgumentParser
import Glibc
import Logging
import MemoryCore

/// Options that every command on a memory has.
struct OutputOptions: ParsableArguments {
    @Flag(help: "Print JSON, for programs.")
    var json = false
}

/// The client whose memory it is.
struct ClientOption: ParsableArguments {
    @Option(name: [.customLong("client"), .customShort("c")], help: "The client whose memory it is, 1 to 2147483647.")
    var id = 1
}

/// Opens the memory of the environment for one command, and closes it after.
func withMemory<Value>(_ work: (Memory) async throws -> Value) async throws -> Value {
    GatewayLogging.bootstrap(level: .error)
    let memory = try await failing { () throws(MemoryError) in
        try await Memory.open(.environment(), logger: Logger(label: "memory-gateway"))
    }
    do {
        let value = try await work(memory)
        await memory.close()
        return value
    } catch let error as MemoryError {
        await memory.close()
        throw ValidationFailure(message: error.message)
    } catch {
        await memory.close()
        throw error
    }
}

/// Prints bytes that are text, and a newline.
func printLine(_ bytes: [UInt8]) { print(String(decoding: bytes, as: UTF8.self)) }

/// A line of progress on standard error: written over itself on a terminal, else not at all until the last.
struct ProgressLine {
    private let isTerminal = isatty(STDERR_FILENO) == 1

    func show(_ text: String, isLast: Bool = false) {
        guard isTerminal || isLast else { return }
        let line = (isTerminal ? "\r" : "") + text + (isLast || !isTerminal ? "\n" : "")
        let bytes = Array(line.utf8)
        _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
