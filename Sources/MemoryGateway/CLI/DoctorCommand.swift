import ArgumentParser
import Configuration
import Logging
import MemoryCore

struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Checks every store, the schema, the keys, the collections and the embeddings.",
        discussion: "Says what to do about whatever is not as it should be, and then exits with 1.")

    @OptionGroup var output: OutputOptions

    func run() async throws {
        GatewayLogging.bootstrap(level: .critical)
        let findings = try await failing { () throws(MemoryError) in
            let gateway = try GatewayConfiguration(reader: ConfigReader(provider: EnvironmentVariablesProvider()))
            return try await Memory.examine(.environment(), allowsAnonymous: gateway.allowsAnonymous)
        }
        if output.json {
            let list = findings.map { finding in
                JSON.object([
                    "subject": .string(finding.subject), "good": .bool(finding.isGood), "text": .string(finding.text),
                ])
            }
            printLine(JSON.array(list).encoded)
        } else {
            for finding in findings { print("\(finding.isGood ? "good" : "BAD ") \(finding.subject): \(finding.text)") }
        }
        if findings.contains(where: { !$0.isGood }) { throw ExitCode(1) }
    }
}
