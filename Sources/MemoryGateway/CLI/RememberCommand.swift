import ArgumentParser
import MemoryCore

struct RememberCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remember", abstract: "Remembers a text.",
        discussion: "Example: memory-gateway remember 'User prefers morning deep work' --tag work")

    @Argument(help: "The text, at most 65536 bytes.")
    var content: String

    @OptionGroup var client: ClientOption
    @OptionGroup var output: OutputOptions

    @Option(help: "fact, event, preference, observation, decision, …")
    var type = "fact"

    @Option(help: "A label; may be given again.")
    var tag: [String] = []

    @Option(help: "The conversation it comes from.")
    var session: String?

    func run() async throws {
        var draft = MemoryDraft(clientID: client.id, content: content, type: type)
        draft.tags = tag
        draft.sessionID = session
        let receipt = try await withMemory { try await $0.remember(draft) }
        guard output.json else {
            print(
                "Remembered as \(receipt.memoryID), in \(receipt.storedIn.map(\.description).joined(separator: ", "))")
            if let warning = receipt.warning { print(warning) }
            return
        }
        var writer = JSONWriter()
        receipt.write(to: &writer)
        printLine(writer.bytes)
    }
}
