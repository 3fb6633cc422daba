import ArgumentParser
import MemoryCore

struct MigrateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate", abstract: "Applies the migrations that the database lacks.")

    @Flag(help: "Change nothing; say what would be applied.")
    var dryRun = false

    func run() async throws {
        let steps = try await failing { () throws(MemoryError) in
            try await Memory.migrate(.environment(), dryRun: dryRun)
        }
        for step in steps { print("\(step.name): \(step.state)") }
    }
}
