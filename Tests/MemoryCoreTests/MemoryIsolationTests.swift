import MemoryTestSupport
import Synchronization
import Testing

@testable import MemoryCore

/// Several gateways on the same stores, and many clients on one gateway.
@Suite("Memory shared by gateways and clients")
struct MemoryIsolationTests {
    @Test("A write through one gateway is seen by the next recall through another", .timeLimit(.minutes(5)))
    func readYourWrites() async throws {
        try await TestWorld.with { world async throws in
            try await world.withMemory { first async throws in
                try await world.withMemory { second async throws in
                    let request = RecallRequest(query: "round", clientID: world.client, limit: 100)
                    var ids: [Int64] = []
                    for round in 0..<20 {
                        let (writer, reader) = round.isMultiple(of: 2) ? (first, second) : (second, first)
                        if round % 5 == 4 {
                            let gone = ids.removeFirst()
                            try await writer.delete(gone, client: world.client)
                        } else {
                            ids.append(try await writer.remember("round \(round)", client: world.client).memoryID)
                        }
                        let found = try await reader.recall(request).hits.map(\.record.id)
                        #expect(Set(found) == Set(ids))
                        // The next write must not be hidden by what this keeps.
                        #expect(try await Set(writer.recall(request).hits.map(\.record.id)) == Set(ids))
                    }
                }
            }
        }
    }

    @Test(
        "Under concurrent writes, no recall that starts after an answer misses what was answered",
        .timeLimit(.minutes(5)))
    func readYourWritesUnderLoad() async throws {
        try await TestWorld.with { world async throws in
            try await world.withMemory { first async throws in
                try await world.withMemory { second async throws in
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for writer in 0..<6 {
                            group.addTask {
                                let (mine, other) = writer.isMultiple(of: 2) ? (first, second) : (second, first)
                                for number in 0..<6 {
                                    let id = try await mine.remember("number \(writer) \(number)", client: world.client)
                                        .memoryID
                                    let request = RecallRequest(query: "number", clientID: world.client, limit: 100)
                                    let found = try await other.recall(request).hits.map(\.record.id)
                                    #expect(found.contains(id))
                                }
                            }
                        }
                        try await group.waitForAll()
                    }
                }
            }
        }
    }

    @Test("Twenty clients that ask the same at once each find only their own", .timeLimit(.minutes(5)))
    func clients() async throws {
        for stores in StoreSet.allCases {
            try await TestWorld.with(stores) { world async throws in
                try await world.withMemory { memory async throws in
                    let clients = (0..<20).map { world.client + $0 }
                    let ids = try await withThrowingTaskGroup(of: (Int, Int64).self) { group in
                        for client in clients {
                            for number in 0..<3 {
                                group.addTask {
                                    let content = "the canary of client \(client), number \(number)"
                                    return (client, try await memory.remember(content, client: client).memoryID)
                                }
                            }
                        }
                        return try await group.reduce(into: [Int: Set<Int64>]()) { $0[$1.0, default: []].insert($1.1) }
                    }
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for round in 0..<3 {
                            for client in clients {
                                group.addTask {
                                    var request = RecallRequest(query: "the canary", clientID: client, limit: 100)
                                    request.mode = RecallRequest.Mode.allCases[round]
                                    let hits = try await memory.recall(request).hits
                                    #expect(Set(hits.map(\.record.id)) == ids[client])
                                    #expect(hits.allSatisfy { $0.record.content.contains("client \(client),") })
                                }
                            }
                        }
                        try await group.waitForAll()
                    }
                    let foreign = try #require(ids[clients[1]]?.first)
                    let read = await #expect(throws: MemoryError.self) {
                        try await memory.memory(foreign, client: clients[0])
                    }
                    let deletion = await #expect(throws: MemoryError.self) {
                        try await memory.delete(foreign, client: clients[0])
                    }
                    #expect(read?.code == .notFound && deletion?.code == .notFound)
                }
            }
        }
    }

    @Test("Points that a vector store lies about are no hits", .timeLimit(.minutes(5)))
    func foreignPoints() async throws {
        for stores in StoreSet.allCases {
            try await TestWorld.with(stores) { world async throws in
                try await world.withMemory { memory async throws in
                    let mine = try await memory.remember("my tea", client: world.client)
                    let theirs = try await memory.remember("their tea", client: world.client + 1)
                    // Their point, told to be mine, and one of a record that never was.
                    for id in [theirs.memoryID, theirs.memoryID + 1000] {
                        let record = MemoryRecord(
                            MemoryDraft(clientID: world.client, content: "my tea"), id: id, createdAt: .now)
                        let vector = try await LexicalEmbedder().embed(["tea"], deadline: .after(.seconds(1)))[0].get()
                        let point = VectorPoint(
                            subject: .record(record), dense: vector, sparse: .document("tea"), model: "forged")
                        try await memory.vectors.upsert([point], in: .events, deadline: .after(.seconds(10)))
                    }
                    let hits = try await memory.recall("tea", client: world.client)
                    #expect(hits.map(\.record.id) == [mine.memoryID])
                }
            }
        }
    }

    @Test("A thousand identical recalls at once cost a few searches", .timeLimit(.minutes(5)))
    func herd() async throws {
        try await TestWorld.with(own: [.qdrant]) { world async throws in
            try await world.withMemory { memory async throws in
                let receipt = try await memory.remember("tea at four", client: world.client)
                // The first recall of a client settles its generation.
                _ = try await memory.recall("anything", client: world.client)
                let request = RecallRequest(query: "when is tea?", clientID: world.client)
                let right = try await withThrowingTaskGroup(of: Bool.self) { group in
                    for _ in 0..<1000 {
                        group.addTask { try await memory.recall(request).hits.map(\.record.id) == [receipt.memoryID] }
                    }
                    return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
                }
                #expect(right == 1000)
                let stats = try await CurlClient(store: .qdrant).send(
                    CurlRequest(
                        method: .get, url: world.configuration.qdrant.url + "/__test__/stats",
                        deadline: .after(.seconds(10))))
                let searches = try JSON.parse(stats.body)["POST /points/query/batch"]?.int ?? 0
                #expect((1...60).contains(searches))
            }
        }
    }
}
