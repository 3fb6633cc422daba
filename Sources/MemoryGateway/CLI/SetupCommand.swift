import ArgumentParser
import MemoryCore

struct SetupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "setup",
        abstract: "Creates the Qdrant collections that are missing.",
        discussion: "A second run changes nothing. Exits with 1 when a collection differs so that it cannot serve.")

    @Flag(help: "Change nothing; exit with 1 on any difference.")
    var check = false

    func run() async throws {
        let reports = try await failing { () throws(MemoryError) in
            try await Memory.setUpCollections(.environment(), check: check)
        }
        for report in reports {
            let differences = report.differences.isEmpty ? "" : " (\(report.differences.joined(separator: "; ")))"
            print("\(report.name): \(report.state)\(differences)")
        }
        let isWrong = reports.contains { check ? $0.state != "matches" : $0.isFatal }
        if isWrong { throw ExitCode.failure }
    }
}
