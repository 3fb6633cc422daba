import ArgumentParser
import MemoryCore

struct RecallCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recall", abstract: "Finds the memories that answer a question best.",
        discussion: "Exits with 1 when there is none.")

    @Argument(help: "The question.")
    var query: String

    @OptionGroup var client: ClientOption
    @OptionGroup var output: OutputOptions

    @Option(name: [.customShort("k"), .long], help: "How many at most, 1 to 100.")
    var limit = 5

    @Option(help: "hybrid, dense or keyword.")
    var mode = "hybrid"

    func run() async throws {
        var request = RecallRequest(query: query, clientID: client.id, limit: limit)
        guard let mode = RecallRequest.Mode(rawValue: mode) else {
            throw ValidationError("--mode must be hybrid, dense or keyword")
        }
        request.mode = mode
        let finished = request
        let answer = try await withMemory { try await $0.recall(finished) }
        if output.json {
            printLine(answer.encodedHits)
        } else {
            for hit in answer.hits {
                let score = (hit.score * 1000).rounded() / 1000
                print("\(hit.record.id)\t\(score)\t\(hit.record.type)\t\(hit.record.content)")
            }
        }
        if answer.count == 0 { throw ExitCode(1) }
    }
}
