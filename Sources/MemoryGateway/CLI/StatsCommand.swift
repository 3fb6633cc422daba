import ArgumentParser
import MemoryCore

struct StatsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats", abstract: "Counts memories, clients, and what the outbox still owes.")

    @OptionGroup var output: OutputOptions

    func run() async throws {
        let statistics = try await withMemory { try await $0.statistics() }
        let numbers = [
            ("memories", statistics.memories), ("clients", statistics.clients),
            ("outbox_pending", statistics.outboxPending), ("outbox_dead", statistics.outboxDead),
        ]
        guard output.json else {
            for (name, number) in numbers { print("\(name): \(number)") }
            return
        }
        var object = JSONObject()
        for (name, number) in numbers { object[name] = .int(Int64(number)) }
        printLine(object.encoded)
    }
}
