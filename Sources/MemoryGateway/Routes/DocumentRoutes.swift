import Hummingbird
import MemoryCore

enum DocumentRoutes {
    private static let path = "/api/v1/memory/docs"
    private static let id = Endpoint.Parameter.path(
        "doc_id", Schema.string(1...255), "The document's id; a `/` in it is `%2F`.", example: "handbook")

    static let endpoints: [Endpoint] = [
        Endpoint(
            method: .post, path: path, tag: "Documents",
            summary: "Ingests a document, in the place of the one of its id",
            tenancy: .optionalClient(.body), writes: true, body: .json("DocumentDraft", maxBytes: 16 << 20),
            answers: [
                .ok("DocumentReceipt", "Every chunk is indexed, or (`pending`) will be in a moment."),
                .partly("DocumentReceipt"),
            ],
            errors: [413, 422]
        ) { call in
            let receipt = try await call.memory.ingest(
                try DocumentDraft(call.body, owner: try call.tenant.requiredOwner()))
            return .json(receipt.json.encoded, status: receipt.failed.isEmpty ? .ok : .multiStatus)
        },
        Endpoint(
            method: .get, path: path, tag: "Documents", summary: "The client's documents and those that are shared",
            tenancy: .optionalClient(.query), writes: false, parameters: Endpoint.Parameter.page,
            answers: [.ok("DocumentPage")]
        ) { call in
            .page(
                try await call.memory.documents(
                    of: call.tenant.documents, page: try PageRequest(call.queryFields)), \.json)
        },
        Endpoint(
            method: .get, path: path + "/{doc_id}", tag: "Documents", summary: "One document with its text",
            tenancy: .optionalClient(.query), writes: false, parameters: [id], answers: [.ok("Document")], errors: [404]
        ) { call in
            .json(try await call.memory.document(try call.text("doc_id"), of: call.tenant.documents).json.encoded)
        },
        Endpoint(
            method: .delete, path: path + "/{doc_id}", tag: "Documents", summary: "Deletes a document with its chunks",
            tenancy: .optionalClient(.query), writes: true, parameters: [id], answers: [.gone], errors: [404]
        ) { call in
            try await call.memory.deleteDocument(try call.text("doc_id"), of: try call.tenant.requiredOwner())
            return Response(status: .noContent)
        },
        Endpoint(
            method: .get, path: "/api/v1/memory/search/docs", tag: "Documents",
            summary: "Finds the chunks that answer a question best", tenancy: .optionalClient(.query), writes: false,
            parameters: [
                .query(
                    "query", Schema.string(1...4096), "The question.", example: "how do refunds work?", isRequired: true
                ),
                .limit(3), .query("doc_id", Schema.string(1...255), "Only this document.", example: "handbook"),
            ], answers: [.ok("DocumentHits")]
        ) { call in
            let hits = try await call.memory.searchDocuments(
                try call.queryFields.requiredString("query"), in: call.tenant.documents,
                document: try call.queryFields.string("doc_id"), limit: try call.queryFields.int("k") ?? 3)
            return .json(
                JSON.object(["results": .array(hits.map(\.json)), "total": .int(Int64(hits.count))]).encoded)
        },
    ]

    static let schemas: [(String, JSON)] = [
        (
            "DocumentDraft",
            Schema.draft(
                [
                    "doc_id": Schema.string(1...255), "client_id": Schema.clientID, "title": Schema.string(1...500),
                    "content": Schema.string(1...16_777_216, "Markdown or plain text."), "metadata": Schema.anyObject,
                    "shared": Schema.boolean,
                ], optional: ["client_id", "title", "metadata", "shared"],
                example: [
                    "doc_id": "handbook", "client_id": 1, "title": "Handbook",
                    "content": "# Refunds\n\nA refund takes three days.",
                ])
        ),
        (
            "DocumentReceipt",
            Schema.object(
                [
                    "doc_id": Schema.string(), "chunks": Schema.integer(), "stored_in": Schema.stores,
                    "failed": Schema.stores, "warning": Schema.string(), "pending": Schema.stores,
                ], optional: ["failed", "warning", "pending"])
        ),
        (
            "Document",
            Schema.object(
                [
                    "doc_id": Schema.string(), "client_id": Schema.nullable(Schema.clientID),
                    "title": Schema.nullable(Schema.string()), "chunks": Schema.integer(),
                    "metadata": Schema.anyObject, "created_at": Schema.timestamp, "updated_at": Schema.timestamp,
                    "content": Schema.string(),
                ], optional: ["content"])
        ), ("DocumentPage", Schema.page("Document")),
        (
            "DocumentHits",
            Schema.object([
                "results": Schema.array(
                    Schema.object([
                        "doc_id": Schema.string(), "chunk_index": Schema.integer(), "content": Schema.string(),
                        "similarity_score": Schema.nullable(Schema.number(0...1)), "metadata": Schema.anyObject,
                    ])), "total": Schema.integer(),
            ])
        ),
    ]
}

extension DocumentDraft {
    fileprivate init(_ object: JSONObject, owner: Owner) throws(MemoryError) {
        let fields = FieldReader(object)
        self.init(
            id: try fields.requiredString("doc_id"), owner: owner, content: try fields.requiredString("content"))
        title = try fields.string("title")
        metadata = try fields.object("metadata") ?? JSONObject()
    }
}

extension DocumentReceipt {
    fileprivate var json: JSONObject {
        var object: JSONObject = [
            "doc_id": .string(id), "chunks": .int(Int64(chunks)),
            "stored_in": .array(storedIn.map { .string($0.description) }),
        ]
        if !failed.isEmpty {
            object["failed"] = .array(failed.map { .string($0.description) })
            object["warning"] = "Vector storage failed, will retry in background"
        }
        if !pending.isEmpty { object["pending"] = .array(pending.map { .string($0.description) }) }
        return object
    }
}

extension Document {
    fileprivate var json: JSON {
        var object: JSONObject = [
            "doc_id": .string(id), "client_id": .optional(clientID), "title": .optional(title),
            "chunks": .int(Int64(chunks)), "metadata": .object(metadata), "created_at": .string(createdAt.description),
            "updated_at": .string(updatedAt.description),
        ]
        object["content"] = content.map(JSON.string)
        return .object(object)
    }
}

extension DocumentHit {
    fileprivate var json: JSON {
        [
            "doc_id": .string(documentID), "chunk_index": .int(Int64(index)), "content": .string(content),
            "similarity_score": .optional(similarity), "metadata": .object(metadata),
        ]
    }
}
