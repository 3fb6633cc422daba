import MemoryCore

/// An agent on the three servers that the environment names (`.env.template`): it keeps a conversation, and finds in it
/// what a question is about.
@main
struct ServerAgent {
    static func main() async throws {
        let memory = try await Memory.open(.environment())
        let turns = ["Ada: I moved to Turin in May", "Bob: How is the new flat?", "Ada: Small, but it has a piano"]
        let results = try await memory.remember(
            turns.map { turn in
                var draft = MemoryDraft(clientID: 7, content: turn, type: "episode")
                draft.sessionID = "example"
                return draft
            })
        for result in results {
            switch result {
            case .success(let receipt): print("Stored \(receipt.memoryID) in \(receipt.storedIn)")
            case .failure(let error): print("Refused: \(error)")
            }
        }
        var request = RecallRequest(query: "Which instrument does Ada have?", clientID: 7, limit: 2)
        request.filter.sessionID = "example"
        let answer = try await memory.recall(request)
        for hit in answer.hits { print(hit.score, hit.record.content) }
        await memory.close()
    }
}
