import ArgumentParser
import MemoryCore

struct ForgetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forget", abstract: "Deletes memories from all stores.",
        discussion: "Exits with 1 when one of them is not there; the others are deleted.")

    @Argument(help: "The ids, as recall shows them.")
    var ids: [Int64]

    @OptionGroup var client: ClientOption
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let gone = try await withMemory { memory in
            var gone: [Int64] = []
            for id in ids {
                do throws(MemoryError) {
                    try await memory.delete(id, client: client.id)
                    gone.append(id)
                } catch {
                    guard error.code == .notFound else { throw error }
                }
            }
            return gone
        }
        if output.json {
            printLine(JSON.object(["deleted": .array(gone.map(JSON.int))]).encoded)
        } else {
            for id in ids { print(gone.contains(id) ? "\(id): deleted" : "\(id): not found") }
        }
        if gone.count < ids.count { throw ExitCode(1) }
    }
}
