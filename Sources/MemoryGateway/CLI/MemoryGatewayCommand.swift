import ArgumentParser
import MemoryCore

@main
struct MemoryGatewayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "memory-gateway",
        abstract: "One memory API for agents, over Postgres, Qdrant and Valkey.",
        discussion: "Settings come from the environment; .env.template lists every variable.",
        version: GatewayVersion.current,
        subcommands: [
            ServeCommand.self, RememberCommand.self, RecallCommand.self, ForgetCommand.self, StatsCommand.self,
            DoctorCommand.self, KeysCommand.self, OutboxCommand.self, ExportCommand.self, ImportCommand.self,
            ReindexCommand.self,
            MigrateCommand.self,
            SetupCommand.self, VersionCommand.self,
        ],
        defaultSubcommand: ServeCommand.self)
}

/// The one place that knows the version.
enum GatewayVersion {
    static let current = "0.1.0"
}

/// Ends the command with one line on standard error, as `error` says it: without a stack, without a secret.
func failing<Value>(_ work: () async throws(MemoryError) -> Value) async throws -> Value {
    do throws(MemoryError) {
        return try await work()
    } catch {
        let detail = error.code == .configuration ? error.detail : error.debugDescription
        let lines = [error.message, detail].compactMap { $0 }.filter { !$0.isEmpty }
        throw ValidationFailure(message: Array(lines.prefix(2)).joined(separator: ": "))
    }
}

/// An error whose text is all there is to say.
struct ValidationFailure: Error, CustomStringConvertible {
    let message: String
    var description: String { message }
}
