/// What a file of `collections/` declares: a collection as it should be.
struct CollectionDefinition: Sendable {
    let name: String
    let size: Int64
    let distance: String
    let sparseVectors: JSONObject
    let onDiskPayload: Bool
    let hnsw: JSONObject
    /// The index of each payload field, as Qdrant's `field_schema`.
    let payloadIndexes: JSONObject

    /// Every file of `collections/`, as it was when this was built.
    static func bundled() throws(MemoryError) -> [CollectionDefinition] {
        var definitions: [CollectionDefinition] = []
        for file in BundledFiles.collections { definitions.append(try CollectionDefinition(file)) }
        return definitions
    }

    /// - Throws: ``MemoryError`` with `configuration`, naming the file and the key that is wrong.
    init(_ file: BundledFile) throws(MemoryError) {
        func wrong(_ reason: String) -> MemoryError {
            MemoryError(.configuration, "collections/\(file.name): \(reason)")
        }
        let json: JSON
        do {
            json = try JSON.parse(Array(file.text.utf8))
        } catch {
            throw wrong("\(error.reason) at byte \(error.offset)")
        }
        guard let fields = json.object else { throw wrong("is no JSON object") }
        let known: Set = [
            "version", "name", "vectors", "sparse_vectors", "on_disk_payload", "hnsw_config", "payload_indexes",
        ]
        if let member = fields.members.first(where: { !known.contains($0.key) }) {
            throw wrong("unknown key \(member.key)")
        }
        guard fields["version"]?.int == 1 else { throw wrong("version must be 1") }
        guard let name = fields["name"]?.string, file.name == "\(name).json" else {
            throw wrong("name must be that of the file")
        }
        guard let size = fields["vectors"]?["size"]?.int, let distance = fields["vectors"]?["distance"]?.string else {
            throw wrong("vectors must have size and distance")
        }
        guard let onDisk = fields["on_disk_payload"]?.bool, let indexes = fields["payload_indexes"]?.object else {
            throw wrong("on_disk_payload and payload_indexes are required")
        }
        self.name = name
        self.size = size
        self.distance = distance
        sparseVectors = fields["sparse_vectors"]?.object ?? JSONObject()
        onDiskPayload = onDisk
        hnsw = fields["hnsw_config"]?.object ?? JSONObject()
        payloadIndexes = indexes
    }

    /// The body of `PUT /collections/{name}`.
    var creation: JSON {
        var body: JSONObject = [
            "vectors": ["size": .int(size), "distance": .string(distance)], "on_disk_payload": .bool(onDiskPayload),
        ]
        if !sparseVectors.isEmpty { body["sparse_vectors"] = .object(sparseVectors) }
        if !hnsw.isEmpty { body["hnsw_config"] = .object(hnsw) }
        return .object(body)
    }
}

extension CollectionDefinition {
    /// How a collection differs from what it should be.
    struct Differences: Sendable {
        /// What no request can mend: another size or distance. Each says what is expected and what was found.
        var fatal: [String] = []
        /// What setup cannot change, and recall can do without.
        var tolerable: [String] = []
        /// Payload fields without their index, which setup can create.
        var missingIndexes: [String] = []

        var isEmpty: Bool { fatal.isEmpty && tolerable.isEmpty && missingIndexes.isEmpty }
    }

    /// Compares with the `result` of `GET /collections/{name}`.
    func differences(from found: JSON) -> Differences {
        var differences = Differences()
        let params = found["config"]?["params"]
        let vectors = params?["vectors"]
        if vectors?["size"]?.int != size {
            differences.fatal.append("size: expected \(size), found \(Self.text(vectors?["size"]))")
        }
        if vectors?["distance"]?.string != distance {
            differences.fatal.append("distance: expected \(distance), found \(Self.text(vectors?["distance"]))")
        }
        for member in sparseVectors.members {
            let sparse = params?["sparse_vectors"]?[member.key]
            if sparse?.object == nil {
                differences.tolerable.append("no sparse vector \(member.key): recall by meaning alone")
            } else if sparse?["modifier"] != member.value["modifier"] {
                differences.tolerable.append(
                    "modifier of \(member.key): expected \(Self.text(member.value["modifier"])), found \(Self.text(sparse?["modifier"]))"
                )
            }
        }
        if params?["on_disk_payload"]?.bool != onDiskPayload {
            differences.tolerable.append(
                "on_disk_payload: expected \(onDiskPayload), found \(Self.text(params?["on_disk_payload"]))")
        }
        for member in hnsw.members {
            let value = found["config"]?["hnsw_config"]?[member.key]
            guard value != member.value else { continue }
            differences.tolerable.append(
                "hnsw_config.\(member.key): expected \(Self.text(member.value)), found \(Self.text(value))")
        }
        for member in payloadIndexes.members {
            let index = found["payload_schema"]?[member.key]
            guard let kind = index?["data_type"]?.string else {
                differences.missingIndexes.append(member.key)
                continue
            }
            if kind != member.value["type"]?.string {
                differences.tolerable.append(
                    "index of \(member.key): expected \(Self.text(member.value["type"])), found \(kind)")
            }
        }
        return differences
    }

    private static func text(_ value: JSON?) -> String {
        switch value {
        case .string(let text)?: text
        case let value?: String(decoding: value.encoded, as: UTF8.self)
        case nil: "none"
        }
    }
}
