import ArgumentParser
import MemoryCore

struct KeysCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Creates, lists and revokes API keys.",
        discussion: """
            Without any key the gateway is open to whoever reaches it; with the first one, every request needs one, within \
            ten seconds. That stays so: when the last key is revoked or expires, every request is refused.
            """,
        subcommands: [CreateKeyCommand.self, ListKeysCommand.self, RevokeKeyCommand.self])
}

struct CreateKeyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Creates a key, and shows it this once.",
        discussion: """
            Example: memory-gateway keys create planner --client 1 --client 2 --read-only
            A key that is bound to clients may not use what belongs to none (graph, runs, templates, shared documents, \
            metrics) unless --shared, or --shared-read for reading alone, is given.
            """)

    @Argument(help: "What it is for.")
    var name: String

    @Option(name: [.customLong("client"), .customShort("c")], help: "A client it is bound to; may be given again.")
    var clients: [Int] = []

    @Flag(help: "It may not write.")
    var readOnly = false

    @Flag(help: "It may use what belongs to no client.")
    var shared = false

    @Flag(help: "It may read what belongs to no client, and not write it.")
    var sharedRead = false

    @Option(help: "It ends by itself after so many days.")
    var expiresInDays: Int?

    @OptionGroup var output: OutputOptions

    func run() async throws {
        var draft = APIKeyDraft(name: name, clients: clients.isEmpty ? nil : clients)
        draft.canWrite = !readOnly
        guard !shared || !sharedRead else { throw ValidationError("--shared and --shared-read exclude each other") }
        if shared { draft.sharing = .write }
        if sharedRead { draft.sharing = .read }
        if let expiresInDays {
            guard (1...36_500).contains(expiresInDays) else {
                throw ValidationError("--expires-in-days must be between 1 and 36500")
            }
            draft.expiresAt = Timestamp.now.advanced(by: .seconds(expiresInDays * 86_400))
        }
        let finished = draft
        let (key, text) = try await withMemory { try await $0.createKey(finished) }
        guard output.json else {
            print(text.revealed)
            ProgressLine().show("This is key \(key.id); it is not shown again.", isLast: true)
            return
        }
        var object = key.json
        object["key"] = .string(text.revealed)
        printLine(object.encoded)
    }
}

struct ListKeysCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists every key, newest first.")

    @OptionGroup var output: OutputOptions

    func run() async throws {
        let keys = try await withMemory { try await $0.apiKeys() }
        if output.json {
            printLine(JSON.array(keys.map { .object($0.json) }).encoded)
            return
        }
        for key in keys {
            let clients = key.clients.map { "clients \($0.map { String($0) }.joined(separator: ","))" } ?? "all clients"
            let rights = (key.canWrite ? "read, write" : "read") + key.sharing.text
            let end = key.revokedAt.map { ", revoked \($0)" } ?? key.expiresAt.map { ", until \($0)" } ?? ""
            print("\(key.id)\t\(key.hint)…\t\(key.name)\t\(clients)\t\(rights)\(end)")
        }
    }
}

struct RevokeKeyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revoke", abstract: "Ends a key; gateways that run know it within ten seconds.")

    @Argument(help: "The key's id, as list shows it.")
    var id: Int64

    func run() async throws {
        let left = try await withMemory { try await $0.revokeKey(id) }
        print("\(id): revoked")
        guard left == 0 else { return }
        let text = """
            It was the last live key: gateways without API_KEYS refuse every call from now on. memory-gateway keys create \
            NAME makes a new one.
            """
        ProgressLine().show(text, isLast: true)
    }
}

extension Access.Sharing {
    fileprivate var text: String {
        switch self {
        case .none: ""
        case .read: ", read shared"
        case .write: ", shared"
        }
    }
}

extension APIKey {
    fileprivate var json: JSONObject {
        [
            "id": .int(id), "name": .string(name), "hint": .string(hint),
            "clients": clients.map { .array($0.map { .int(Int64($0)) }) } ?? .null, "can_write": .bool(canWrite),
            "can_share": .bool(sharing == .write), "can_read_shared": .bool(sharing >= .read),
            "created_at": .string(createdAt.description),
            "expires_at": .optional(expiresAt), "revoked_at": .optional(revokedAt),
        ]
    }
}
