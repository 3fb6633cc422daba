import ArgumentParser
import MemoryCore

struct OutboxCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "outbox", abstract: "Shows vectors that were given up on, and tries them again.",
        discussion:
            "A vector is given up on when its text is at fault: no model would make one of it, eight times in a row.",
        subcommands: [ListOutboxCommand.self, RetryOutboxCommand.self, ReconcileCommand.self])
}

struct ListOutboxCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the vectors that were given up on, oldest first.")

    @OptionGroup var output: OutputOptions

    @Option(name: [.customShort("n"), .long], help: "How many at most.")
    var limit = 100

    func run() async throws {
        guard limit > 0 else { throw ValidationError("--limit must be more than 0") }
        let letters = try await withMemory { try await $0.deadLetters(limit: limit) }
        for letter in letters where !output.json {
            print(
                "\(letter.collection)\t\(letter.recordID)\tclient \(letter.clientID)\t\(letter.attempts) attempts\t"
                    + "\(letter.createdAt)\t\(letter.lastError)")
        }
        guard output.json else { return }
        let list = letters.map { letter in
            JSON.object([
                "collection": .string(letter.collection), "record_id": .int(letter.recordID),
                "client_id": .int(Int64(letter.clientID)), "attempts": .int(Int64(letter.attempts)),
                "last_error": .string(letter.lastError), "created_at": .string(letter.createdAt.description),
            ])
        }
        printLine(JSON.array(list).encoded)
    }
}

struct RetryOutboxCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retry", abstract: "Tries everything again that was given up on.",
        discussion: "A running gateway takes it up within a second.")

    func run() async throws {
        let count = try await withMemory { try await $0.retryDeadLetters() }
        print("\(count) to be tried again")
    }
}

struct ReconcileCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reconcile", abstract: "Compares every vector with its record, and puts right what differs.",
        discussion: "A running gateway compares the numbers once a minute by itself.")

    func run() async throws {
        let found = try await withMemory { try await $0.reconcile() }
        print("\(found.missing) missing, \(found.foreign) foreign")
    }
}
