import HTTPTypes
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

/// A walk over every endpoint with every kind of key: nobody gets a byte of a client that its key does not have, or changes
/// one.
@Suite("Tenancy")
struct TenancyTests {
    /// A key, as it is created.
    struct Key: Sendable, CustomTestStringConvertible {
        var clients: Clients
        var isShared: Bool
        var canWrite: Bool

        enum Clients: String, CaseIterable, Sendable { case one, two, all }

        static let every: [Key] = Clients.allCases.flatMap { clients in
            [false, true].flatMap { isShared in
                [false, true].map { Key(clients: clients, isShared: isShared, canWrite: $0) }
            }
        }

        var testDescription: String {
            "\(clients)\(isShared ? ", shared" : "")\(canWrite ? ", writing" : ", reading")"
        }
    }

    /// What one owner has in every table, under ids that requests can name.
    private struct Estate {
        let client: Int?
        let canary: String
        var values: [String: String] = [:]

        init(client: Int?, _ memory: Memory) async throws {
            self.client = client
            let owner = client.map(Owner.client) ?? .shared
            canary = client.map { "canary-\($0)-end" } ?? "canary-shared-end"
            var document = DocumentDraft(id: "handbook", owner: owner, content: "\(canary): how do refunds work?")
            document.title = canary
            _ = try await memory.ingest(document)
            let event = try await memory.log(
                EventDraft(type: "task.\(canary)", source: "s", owner: owner, payload: ["a": .string(canary)]))
            let plan = try await memory.createPlan(
                PlanDraft(title: canary, intent: canary, sop: [], owner: owner))
            values = ["id": String(event.id), "event_id": String(event.id), "plan_id": String(plan.id)]
            guard let client else { return }
            let record = try await memory.remember("\(canary) when does she focus best? refund task", client: client)
            var patch = MemoryPatch()
            patch.content = "\(canary) when does she focus best? again"
            _ = try await memory.update(
                record.memoryID, client: client, patch)
            values["memory_id"] = String(record.memoryID)
            values["event_id"] = String(record.memoryID)
            _ = try await memory.reflect(canary, client: client, on: .init(mode: .daily, date: "2026-05-07"))
            _ = try await memory.rememberDistilled(MemoryDraft(clientID: client, content: canary), id: "mem0-7f3")
            try await memory.append([SessionMessage(role: "user", content: canary)], to: "s-1", client: client)
            try await memory.setState(["a": .string(canary)], of: "s-1", client: client)
        }

        /// The values for an endpoint: a plan's id and an event's have one name.
        func values(for endpoint: Endpoint) -> [String: String] {
            var values = values
            if endpoint.path.contains("/plans/") { values["id"] = values["plan_id"] }
            return values
        }
    }

    /// All that an owner has, as text.
    private func state(_ client: Int?, _ gateway: TestGateway) async throws -> String {
        let owner = client.map { "client_id = \($0)" } ?? "client_id IS NULL"
        let document = "client_id = \(client ?? 0)"
        var rows: [[String?]] = []
        for statement in [
            "SELECT id, event_type, payload FROM events WHERE \(owner) ORDER BY id",
            "SELECT id, plan_title, status, intent FROM plans WHERE \(owner) ORDER BY id",
            "SELECT id, plan_id FROM scheduler_runs WHERE \(owner) ORDER BY id",
            "SELECT id, doc_id, title, content FROM documents WHERE \(document) ORDER BY id",
            "SELECT id, content FROM document_chunks WHERE \(document) ORDER BY id",
            "SELECT h.event_id, h.version FROM memory_history h JOIN events e ON e.id = h.event_id WHERE e.\(owner)",
        ] { rows += try await gateway.world.execute(statement) }
        guard let client else {
            for table in ["graph_nodes", "graph_edges", "execution_runs", "prompt_templates"] {
                rows += try await gateway.world.execute("SELECT count(*) FROM \(table)")
            }
            return rows.description
        }
        let messages = try await gateway.memory.messages(of: "s-1", client: client).map(\.content)
        return "\(rows) \(messages) \(try await gateway.memory.state(of: "s-1", client: client).encoded)"
    }

    @Test(
        "No endpoint shows or changes what the key does not have", .timeLimit(.minutes(5)),
        arguments: StoreSet.allCases, Key.every)
    func walk(_ stores: StoreSet, _ key: Key) async throws {
        try await TestGateway.with(stores) { gateway async throws in
            let (mine, second, foreign) = (gateway.world.client, gateway.world.client + 1, gateway.world.client + 2)
            var draft = APIKeyDraft(
                name: "walk", clients: key.clients == .one ? [mine] : key.clients == .two ? [mine, second] : nil)
            draft.canWrite = key.canWrite
            draft.sharing = key.isShared ? .write : Access.Sharing.none
            let text = try await gateway.memory.createKey(draft).text
            let headers: HTTPFields = [.apiKey: text.revealed]
            let own = try await Estate(client: mine, gateway.memory)
            let other = try await Estate(client: second, gateway.memory)
            let strange = try await Estate(client: foreign, gateway.memory)
            let shared = try await Estate(client: nil, gateway.memory)
            // Whose content may come back, by what the key is bound to.
            var hidden = [strange]
            if key.clients == .one { hidden.append(other) }
            if !key.isShared { hidden.append(shared) }
            // A key that is bound to nobody may change anyone's plans by their ids.
            let untouchable =
                !key.canWrite
                ? [own, other, strange, shared] : key.clients == .all ? (key.isShared ? [] : [shared]) : hidden
            var before: [String] = []
            for estate in untouchable { before.append(try await state(estate.client, gateway)) }

            var seen: Set<String> = []
            let namings: [(Int?, Int?)] = [(mine, nil), (nil, nil), (foreign, nil), (mine, foreign)]
            for endpoint in EndpointRequest.answering.sorted(by: Self.isEarlier) {
                for target in [own, other, strange, shared] {
                    for (named, elsewhere) in namings {
                        // A key that is bound to nobody may name anyone.
                        if key.clients == .all, named == foreign || elsewhere != nil { continue }
                        let request = EndpointRequest(
                            endpoint: endpoint, client: named, elsewhere: elsewhere,
                            values: target.values(for: endpoint))
                        let reply = try await gateway.send(request, headers)
                        for estate in hidden where reply.text.contains(estate.canary) {
                            // Nor is anything hidden from it but what is shared, when it names nobody.
                            if key.clients == .all, named == nil, estate.client != nil { continue }
                            Issue.record("\(endpoint.method) \(request.path) shows \(estate.canary)")
                        }
                        if named == foreign, Self.readsClient(endpoint) {
                            #expect(reply.status == 403, "\(endpoint.method) \(request.path)")
                        }
                        if reply.text.contains(own.canary) { seen.insert(endpoint.path) }
                    }
                }
            }
            for (estate, state) in zip(untouchable, before) {
                #expect(try await self.state(estate.client, gateway) == state, "of \(estate.canary)")
            }
            // Had nothing been found, nothing could have been shown.
            for path in [
                "recall", "{memory_id}", "{memory_id}/history", "events", "events/{id}", "plans", "plans/{id}", "docs",
                "docs/{doc_id}", "search/docs", "clients/{client_id}/export", "reflections",
                "sessions/{session_id}/messages", "sessions/{session_id}/state",
            ] {
                #expect(seen.contains("/api/v1/memory/\(path)"), "nothing of the key's own came from \(path)")
            }
        }
    }

    /// Reads come first and erasures last: what is asked for must be there.
    private static func isEarlier(_ first: Endpoint, _ second: Endpoint) -> Bool {
        func order(_ endpoint: Endpoint) -> Int {
            guard endpoint.writes else { return 0 }
            return endpoint.method == .delete ? endpoint.path.hasSuffix("{client_id}") ? 3 : 2 : 1
        }
        return order(first) < order(second)
    }

    private static func readsClient(_ endpoint: Endpoint) -> Bool {
        switch endpoint.tenancy {
        case .client, .optionalClient, .clients: true
        default: false
        }
    }
}
