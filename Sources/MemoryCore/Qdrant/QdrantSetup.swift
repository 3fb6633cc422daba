/// Brings the collections of a server to what `collections/` declares.
struct QdrantSetup: Sendable {
    /// What was found or done about one collection.
    struct Report: Sendable {
        enum State: String, Sendable {
            /// It was not there, and was created.
            case created
            /// It is as declared.
            case matches
            /// It lacked indexes, which were created.
            case completed
            /// It is not there, and was not to be created.
            case missing
            /// It is there, and differs.
            case differs
        }

        let name: String
        let state: State
        /// What differs, each with what is expected and what was found.
        let differences: [String]
        /// Whether the gateway cannot work with it.
        let isFatal: Bool
    }

    let client: QdrantClient
    let definitions: [CollectionDefinition]
    let prefix: String

    /// Creates what is missing; a second run changes nothing, and without `changes` it only looks.
    func run(changes: Bool, deadline: Deadline) async throws(MemoryError) -> [Report] {
        var reports: [Report] = []
        for definition in definitions {
            reports.append(try await ensure(definition, changes: changes, deadline: deadline))
        }
        return reports
    }

    private func ensure(
        _ definition: CollectionDefinition, changes: Bool, deadline: Deadline
    ) async throws(MemoryError) -> Report {
        let name = prefix + definition.name
        guard let found = try await client.collection(name, deadline: deadline) else {
            guard changes else { return Report(name: name, state: .missing, differences: ["not there"], isFatal: true) }
            try await create(definition, name, deadline)
            return Report(name: name, state: .created, differences: [], isFatal: false)
        }
        let differences = definition.differences(from: found)
        let texts = differences.fatal + differences.tolerable
        let missing = differences.missingIndexes.map { "no index of \($0)" }
        guard changes, differences.fatal.isEmpty, !missing.isEmpty else {
            return Report(
                name: name, state: differences.isEmpty ? .matches : .differs, differences: texts + missing,
                isFatal: !differences.fatal.isEmpty)
        }
        try await createIndexes(definition, name, only: Set(differences.missingIndexes), deadline)
        return Report(name: name, state: texts.isEmpty ? .completed : .differs, differences: texts, isFatal: false)
    }

    private func create(
        _ definition: CollectionDefinition, _ name: String, _ deadline: Deadline
    ) async throws(MemoryError) {
        do {
            _ = try await client.send(
                .put, "/collections/\(name)", body: definition.creation.encoded, deadline: deadline)
        } catch {
            // Another gateway may have created it at the same moment.
            guard error.driverCode == "http 409" else { throw error }
        }
        let fields = Set(definition.payloadIndexes.members.map(\.key))
        try await createIndexes(definition, name, only: fields, deadline)
    }

    private func createIndexes(
        _ definition: CollectionDefinition, _ name: String, only fields: Set<String>, _ deadline: Deadline
    ) async throws(MemoryError) {
        for member in definition.payloadIndexes.members where fields.contains(member.key) {
            let body: JSON = ["field_name": .string(member.key), "field_schema": member.value]
            try await client.update(.put, "/collections/\(name)/index", body: body.encoded, deadline: deadline)
        }
    }
}
