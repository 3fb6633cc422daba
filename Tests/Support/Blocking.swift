package import Foundation

/// Runs what blocks on a thread of its own. The cooperative pool has a thread for each core: two tests that wait for a process
/// there stop all the others, and what these wait for passes its deadline.
package func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { done in
        Thread.detachNewThread { done.resume(with: Result { try body() }) }
    }
}

/// A program that is run to its end.
package struct FinishedProgram: Sendable {
    package let status: Int32
    package let output: String
    package let errors: String

    /// Runs a program and waits for it.
    package static func run(
        _ executable: URL, arguments: [String], environment: [String: String]? = nil, folder: URL? = nil,
        input: String = ""
    ) async throws -> FinishedProgram {
        try await blocking {
            let process = Process()
            process.executableURL = executable
            process.arguments = arguments
            process.currentDirectoryURL = folder
            if let environment { process.environment = environment }
            let (source, output, errors) = (Pipe(), Pipe(), Pipe())
            (process.standardInput, process.standardOutput, process.standardError) = (source, output, errors)
            try process.run()
            let (complaints, isRead) = (Shared(Data()), DispatchGroup())
            // Both at once: a program whose one pipe is full says nothing more into the other.
            DispatchQueue.global().async(group: isRead) {
                complaints.value = errors.fileHandleForReading.readDataToEndOfFile()
            }
            try source.fileHandleForWriting.write(contentsOf: Data(input.utf8))
            try source.fileHandleForWriting.close()
            let text = output.fileHandleForReading.readDataToEndOfFile()
            isRead.wait()
            process.waitUntilExit()
            return FinishedProgram(
                status: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
                errors: String(decoding: complaints.value, as: UTF8.self))
        }
    }
}
