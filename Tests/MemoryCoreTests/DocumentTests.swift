import Foundation
import MemoryTestSupport
import Testing

@testable import MemoryCore

/// Long documents beside everybody else.
@Suite("Documents")
struct DocumentTests {
    private func text(_ paragraphs: Int, about subject: String) -> String {
        (0..<paragraphs).map { "Paragraph \($0) tells of \(subject), and of nothing else. \(filler)" }
            .joined(separator: "\n\n")
    }

    private let filler = String(repeating: "More words follow here. ", count: 35)

    private func document(_ content: String, _ world: TestWorld) -> DocumentDraft {
        DocumentDraft(id: "handbook", owner: .client(world.client), content: content)
    }

    @Test(
        "Between the slices of a long document others remember, and its readers see the old one whole",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func inSlices(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            try await world.withMemory { memory async throws in
                let old = try await memory.ingest(document(text(3, about: "tulips"), world)).chunks
                let draft = document(text(1300, about: "roses"), world)
                let chunks = Chunker().chunks(draft.content)
                // The row, the slices; then the publication.
                let steps = 1 + (chunks.count + DocumentRepository.slice - 1) / DocumentRepository.slice
                let count = Shared(0)
                let database = Interleaved(base: memory.database) {
                    guard
                        count.withLock({
                            $0 += 1; return $0
                        }) <= steps
                    else { return }
                    do {
                        try await memory.remember("Somebody else's memory", client: world.client + 1)
                        let read = try await memory.document("handbook", of: .client(world.client))
                        let found = try await memory.searchDocuments(
                            "tulips roses", in: .client(world.client), limit: 10)
                        #expect(read.content == text(3, about: "tulips") && read.chunks == old)
                        #expect(found.count == old && found.allSatisfy { !$0.content.contains("roses") })
                    } catch {
                        Issue.record("\(error)")
                    }
                }
                _ = try await DocumentWriter(database: database, surroundings: SystemSurroundings()).store(
                    draft, chunks: chunks, delivered: 0, prepare: { _ in }, deadline: .after(.seconds(60)))
                #expect(steps >= 4 && count.value == steps + 1)
                #expect(try await memory.document("handbook", of: .client(world.client)).chunks == chunks.count)
            }
        }
    }

    @Test(
        "An ingestion that breaks off leaves the old document whole, and what was staged is swept away",
        .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func brokenOff(_ stores: StoreSet) async throws {
        try await TestWorld.with(stores) { world async throws in
            // The tables.
            try await world.withMemory { _ in }
            let plan = FaultPlan()
            try await world.withMemory(failingBy: plan) { memory async throws in
                let old = try await memory.ingest(document(text(3, about: "tulips"), world)).chunks
                let other = DocumentDraft(id: "new", owner: .client(world.client), content: text(1200, about: "roses"))
                for (number, draft) in [document(text(1200, about: "roses"), world), other].enumerated() {
                    // The begin, the row, the mark; then the third slice, or the publication.
                    for step in [number == 0 ? 14 : 16, 8] {
                        plan.arm(at: step, .error)
                        let error = await #expect(throws: MemoryError.self) { try await memory.ingest(draft) }
                        #expect(error?.outcome == .notStored)
                        #expect(plan.disarm())
                    }
                }
                let documents = try await memory.documents(of: .client(world.client)).items
                #expect(documents.map(\.id) == ["handbook"] && documents[0].chunks == old)
                #expect(try await memory.searchDocuments("roses", in: .client(world.client), limit: 10).count == old)
                let left = try await world.execute("SELECT count(*) FROM document_remnants")
                #expect(left != [["0"]])
                let past = stores == .servers ? "now()" : "0"
                try await world.execute("UPDATE document_remnants SET due_at = \(past)")
                await memory.outbox.look()
                #expect(try await world.execute("SELECT count(*) FROM document_remnants") == [["0"]])
                #expect(try await world.execute("SELECT count(*) FROM document_chunks") == [["\(old)"]])
                #expect(try await world.execute("SELECT count(*) FROM documents") == [["1"]])
                // And now it is stored, and deleted, in the same slices.
                _ = try await memory.ingest(document(text(1200, about: "roses"), world))
                #expect(
                    try await memory.searchDocuments("tulips", in: .client(world.client), limit: 10).allSatisfy {
                        !$0.content.contains("tulips")
                    })
                try await memory.deleteDocument("handbook", of: .client(world.client))
                #expect(try await memory.documents(of: .client(world.client)).items.isEmpty)
                await #expect(throws: MemoryError.self) {
                    try await memory.document("handbook", of: .client(world.client))
                }
                #expect(try await memory.searchDocuments("roses", in: .client(world.client)).isEmpty)
                try await world.execute("UPDATE document_remnants SET due_at = \(past)")
                try await world.eventually("all of it is gone") {
                    await memory.outbox.look()
                    return try await world.execute("SELECT count(*) FROM documents") == [["0"]]
                }
                #expect(try await world.execute("SELECT count(*) FROM document_chunks") == [["0"]])
            }
        }
    }
}

/// A database after each of whose transactions something else happens.
private struct Interleaved: SQLDatabase {
    let base: any SQLDatabase
    let afterWrite: @Sendable () async -> Void
    var name: MemoryError.Store { base.name }
    var parallelWrites: Int { base.parallelWrites }

    func read<Value: Sendable>(
        deadline: Deadline, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value { try await base.read(deadline: deadline, body) }

    func write<Value: Sendable>(
        deadline: Deadline, durable: Bool, _ body: @escaping @Sendable (any SQLSession) throws(MemoryError) -> Value
    ) async throws(MemoryError) -> Value {
        let value = try await base.write(deadline: deadline, durable: durable, body)
        await afterWrite()
        return value
    }

    func close() async { await base.close() }
}
