import HTTPTypes
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

/// Keys never fail open: the end of the last one closes the gateway to everyone.
@Suite("Life of keys")
struct KeyLifeTests {
    private func bearer(_ key: Secret) -> HTTPFields { [.authorization: "Bearer \(key.revealed)"] }

    @Test(
        "After the last key was revoked, every call is a 401", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func lastKeyRevoked(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            #expect(try await gateway.get("/api/v1/memory/events").status == 200)
            let (key, text) = try await gateway.memory.createKey(APIKeyDraft(name: "only", clients: [1]))
            try await gateway.memory.revokeKey(key.id)
            for headers in [[:], bearer(text), [.apiKey: "mg_wrong"]] as [HTTPFields] {
                for endpoint in EndpointRequest.answering where endpoint.tenancy != .open {
                    let reply = try await gateway.send(EndpointRequest(endpoint: endpoint, client: 1), headers)
                    #expect(reply.status == 401, "\(endpoint.method) \(endpoint.path)")
                }
            }
            #expect(try await !gateway.memory.isOpen())
            #expect(try await gateway.world.execute("SELECT count(*) FROM events") == [["0"]])
            // A new key is the way back in.
            let next = try await gateway.memory.createKey(APIKeyDraft(name: "next")).text
            #expect(try await gateway.send(.get, "/api/v1/memory/events", headers: bearer(next)).status == 200)
        }
    }

    @Test("A key that has expired closes the gateway too", .timeLimit(.minutes(5)), arguments: StoreSet.allCases)
    func onlyExpired(_ stores: StoreSet) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            var draft = APIKeyDraft(name: "ended")
            draft.expiresAt = Timestamp(microseconds: 0)
            let text = try await gateway.memory.createKey(draft).text
            #expect(try await gateway.get("/api/v1/memory/events").status == 401)
            let reply = try await gateway.send(.get, "/api/v1/memory/events", headers: bearer(text))
            #expect(reply.status == 401)
            // So does a second gateway, which never saw it live.
            let second = TestGateway(memory: gateway.memory, world: gateway.world)
            #expect(try await second.get("/api/v1/memory/events").status == 401)
        }
    }
}
