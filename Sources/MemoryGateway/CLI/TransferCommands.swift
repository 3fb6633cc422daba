import ArgumentParser
import MemoryCore

struct ExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Writes memories as NDJSON, one a line, to standard output.",
        discussion: "Example: memory-gateway export > memories.ndjson")

    @Option(name: [.customLong("client"), .customShort("c")], help: "One client's memories alone.")
    var clientID: Int?

    func run() async throws {
        try await withMemory { memory in
            var count = 0
            let progress = ProgressLine()
            try await memory.export(of: clientID.map(Owners.client) ?? .anyone) { lines in
                for line in lines { printLine(line) }
                count += lines.count
                progress.show("\(count) exported")
            }
            progress.show("\(count) exported", isLast: true)
        }
    }
}

struct ImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Stores memories from NDJSON, as export writes it, from standard input.",
        discussion: """
            They get new ids and keep the moment they were first stored. Lines that are refused are named on standard \
            error; the others are stored, and the command exits with 1.
            Example: memory-gateway import < memories.ndjson
            """)

    @OptionGroup var output: OutputOptions

    func run() async throws {
        let (stored, refused) = try await withMemory { memory in
            var (stored, refused, number) = (0, 0, 0)
            let progress = ProgressLine()
            var batch: [NumberedLine] = []
            func flush() async throws {
                guard !batch.isEmpty else { return }
                for (line, result) in zip(batch, try await memory.importLines(batch.map(\.text), of: .all)) {
                    switch result {
                    case .success: stored += 1
                    case .failure(let error):
                        refused += 1
                        progress.show("line \(line.number): \(error.message)", isLast: true)
                    }
                }
                batch = []
                progress.show("\(stored) imported")
            }
            while let text = readLine() {
                number += 1
                guard let line = NumberedLine(number: number, text: Array(text.utf8)) else { continue }
                batch.append(line)
                if batch.count == 256 { try await flush() }
            }
            try await flush()
            progress.show("\(stored) imported, \(refused) refused", isLast: true)
            return (stored, refused)
        }
        if output.json {
            printLine(JSON.object(["stored": .int(Int64(stored)), "refused": .int(Int64(refused))]).encoded)
        }
        if refused > 0 { throw ExitCode(1) }
    }
}

struct ReindexCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reindex", abstract: "Makes every vector again from the records.",
        discussion: """
            For another embedding model, or a vector store that was lost. What is to be done is kept in the outbox: when \
            this is stopped, --resume goes on, and so does a gateway.
            """)

    @Flag(help: "Go on with what an earlier call began.")
    var resume = false

    @OptionGroup var output: OutputOptions

    func run() async throws {
        let (total, dead) = try await withMemory { memory in
            let progress = ProgressLine()
            var total = 0
            let dead = try await memory.reindex(resuming: resume) { done, all in
                total = all
                progress.show("\(done) of \(all) reindexed")
            }
            progress.show("\(total) reindexed, \(dead) given up on", isLast: true)
            return (total, dead)
        }
        if output.json { printLine(JSON.object(["total": .int(Int64(total)), "dead": .int(Int64(dead))]).encoded) }
        if dead > 0 { throw ExitCode(1) }
    }
}

struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Prints the version.")

    @OptionGroup var output: OutputOptions

    func run() {
        if output.json {
            printLine(JSON.object(["version": .string(GatewayVersion.current)]).encoded)
        } else {
            print(GatewayVersion.current)
        }
    }
}
