import MemoryCore

/// An agent that keeps its memory in one file: `swift run EmbeddedAgent "what I said"`, again and again.
@main
struct EmbeddedAgent {
    static func main() async throws {
        let memory = try await Memory.open(.embedded(at: "agent-memory.db"))
        let said = CommandLine.arguments.dropFirst().joined(separator: " ")
        if said.isEmpty {
            print("Say something: swift run EmbeddedAgent 'I like tea'")
        } else {
            for hit in try await memory.recall(said, client: 1, limit: 3) { print("I remember: \(hit.record.content)") }
            try await memory.remember(said, client: 1)
        }
        await memory.close()
    }
}
