import Foundation
import MemoryTestSupport
import Testing
import Yams

@testable import MemoryCore

/// The shipped files against the specification, scenario by scenario, and the scripts against a docker that only notes what
/// it is told.
@Suite("Deployment")
struct DeployTests {
    private let deploy = TestServers.packageRoot.appendingPathComponent("deploy")

    private func yaml(_ path: String) throws -> Node {
        let text = try String(contentsOf: deploy.appendingPathComponent(path), encoding: .utf8)
        return try #require(try Yams.compose(yaml: text))
    }

    private func texts(_ node: Node?) -> [String] { node?.sequence?.compactMap(\.string) ?? [] }

    private func services() throws -> [(name: String, node: Node)] {
        let files = ["docker-compose.yml", "docker-compose.stores.yml"]
        return try files.flatMap { file in
            try (try yaml(file)["services"]?.mapping ?? [:]).map { (try #require($0.key.string), $0.value) }
        }
    }

    // MARK: Compose

    @Test("Valkey: version, memory, eviction, persistence, port and network")
    func valkey() throws {
        let valkey = try #require(try yaml("docker-compose.yml")["services"]?["valkey"])
        #expect(valkey["image"]?.string == "valkey/valkey:8.1")
        let command = try #require(valkey["command"]?.string)
        for flag in ["--maxmemory 200mb", "--maxmemory-policy allkeys-lru", "--appendonly yes --appendfsync everysec"] {
            #expect(command.contains(flag))
        }
        #expect(texts(valkey["ports"]) == ["127.0.0.1:6379:6379"])
        #expect(texts(valkey["networks"]) == ["docker_syncbricks"])
        #expect(valkey["labels"] == nil)
        #expect(texts(valkey["healthcheck"]?["test"]) == ["CMD", "redis-cli", "ping"])
        #expect(valkey["healthcheck"]?["interval"]?.string == "10s")
        #expect(valkey["healthcheck"]?["timeout"]?.string == "5s" && valkey["healthcheck"]?["retries"]?.int == 3)
    }

    @Test(
        "External services are on both networks behind Traefik, on no port of the host",
        arguments: [
            ("memory-gateway", "memory", "8090"), ("planner-engine", "planner", "8091"),
            ("scheduler-engine", "scheduler", "8092"),
        ])
    func externalServices(_ name: String, _ host: String, _ port: String) throws {
        let service = try #require(try yaml("docker-compose.yml")["services"]?[Node(name)])
        #expect(texts(service["networks"]) == ["docker_proxy", "docker_syncbricks"])
        #expect(service["ports"] == nil && texts(service["expose"]) == [port])
        let labels = texts(service["labels"])
        for label in [
            "traefik.enable=true", "traefik.http.routers.\(name).rule=Host(`\(host).bestviable.com`)",
            "traefik.http.routers.\(name).entrypoints=web",
            "traefik.http.services.\(name).loadbalancer.server.port=\(port)",
        ] {
            #expect(labels.contains(label), "\(label)")
        }
    }

    @Test(
        "Internal services are on the internal network alone",
        arguments: ["valkey", "observer-agent", "postgres", "qdrant"])
    func internalServices(_ name: String) throws {
        let service = try #require(try services().first { $0.name == name }?.node)
        #expect(texts(service["networks"]) == ["docker_syncbricks"])
        #expect(service["labels"] == nil)
        #expect(name == "valkey" || service["ports"] == nil)
    }

    @Test("Every service has limits, a health check, a restart policy and rotated logs")
    func everyService() throws {
        let memory = [
            "valkey": "200m", "memory-gateway": "200m", "planner-engine": "200m", "scheduler-engine": "200m",
            "observer-agent": "150m",
        ]
        // The second file only adds dependencies to the gateway.
        for (name, service) in try services() where service["image"] != nil {
            let limits = service["deploy"]?["resources"]?["limits"]
            #expect(limits?["memory"] != nil, "\(name)")
            if let limit = memory[name] {
                #expect(limits?["memory"]?.string == limit && limits?["cpus"]?.string == "0.5", "\(name)")
            }
            #expect(service["healthcheck"]?["test"] != nil && service["restart"]?.string == "unless-stopped", "\(name)")
            #expect(service["logging"]?["driver"]?.string == "json-file", "\(name)")
            #expect(service["logging"]?["options"]?["max-size"]?.string == "10m", "\(name)")
            #expect(service["logging"]?["options"]?["max-file"]?.string == "3", "\(name)")
        }
    }

    @Test("Traefik keeps a gateway that serves, also when Docker says that a store of it is not healthy")
    func traefik() throws {
        let traefik = try #require(try yaml("traefik/docker-compose.yml")["services"]?["traefik"])
        let file = "/etc/traefik/memory-gateway.yml"
        #expect(texts(traefik["command"]).contains("--providers.file.filename=\(file)"))
        #expect(texts(traefik["volumes"]).contains("./memory-gateway.yml:\(file):ro"))
        let http = try #require(try yaml("traefik/memory-gateway.yml")["http"])
        let router = try #require(http["routers"]?["memory-gateway"])
        let gateway = try #require(try yaml("docker-compose.yml")["services"]?["memory-gateway"])
        let rule = try #require(router["rule"]?.string)
        #expect(texts(gateway["labels"]).contains("traefik.http.routers.memory-gateway.rule=\(rule)"))
        #expect(texts(router["entryPoints"]) == ["web"])
        let balancer = http["services"]?[router["service"]?.string ?? ""]?["loadBalancer"]
        #expect(balancer?["servers"]?.sequence?.first?["url"]?.string == "http://memory-gateway:8090")
        #expect(balancer?["healthCheck"]?["path"]?.string == "/health/ready")
    }

    @Test("The gateway: health check, start order, drain, rights")
    func gateway() throws {
        let gateway = try #require(try yaml("docker-compose.yml")["services"]?["memory-gateway"])
        #expect(texts(gateway["healthcheck"]?["test"]) == ["CMD", "curl", "-f", "http://localhost:8090/health"])
        #expect(gateway["healthcheck"]?["interval"]?.string == "30s" && gateway["healthcheck"]?["retries"]?.int == 3)
        #expect(gateway["healthcheck"]?["timeout"]?.string == "10s")
        #expect(gateway["depends_on"]?["valkey"]?["condition"]?.string == "service_healthy")
        let stores = try yaml("docker-compose.stores.yml")["services"]?["memory-gateway"]?["depends_on"]
        #expect(stores?["postgres"]?["condition"]?.string == "service_healthy")
        #expect(stores?["qdrant"]?["condition"]?.string == "service_healthy")
        #expect(gateway["stop_grace_period"]?.string == "35s" && gateway["read_only"]?.bool == true)
        #expect(gateway["user"]?.string == "1000:1000" && texts(gateway["cap_drop"]) == ["ALL"])
    }

    @Test("The image runs as 1000, holds migrations and collections, and checks itself")
    func dockerfile() throws {
        let text = try String(contentsOf: deploy.appendingPathComponent("Dockerfile"), encoding: .utf8)
        #expect(text.components(separatedBy: "\nFROM ").count == 3 && text.contains("USER 1000:1000"))
        #expect(text.contains("HEALTHCHECK") && text.contains("COPY migrations") && text.contains("COPY collections"))
        #expect(text.contains("ENTRYPOINT [\"/usr/local/bin/memory-gateway\"]"))
    }

    @Test("The tunnel sends the three names to Traefik, and everything else away")
    func tunnel() throws {
        let rules = try yaml("cloudflared/config.yml")["ingress"]?.sequence ?? []
        #expect(
            rules.dropLast().map { $0["hostname"]?.string }
                == ["memory", "planner", "scheduler"].map { "\($0).bestviable.com" })
        #expect(rules.dropLast().allSatisfy { $0["service"]?.string == "http://traefik:80" })
        #expect(rules.last?["service"]?.string == "http_status:404")
    }

    @Test("Images are built on main and by hand, tagged by branch and commit, and pushed to GHCR")
    func workflow() throws {
        let text = try String(
            contentsOf: TestServers.packageRoot.appendingPathComponent(".github/workflows/ci.yml"), encoding: .utf8)
        let jobs = try #require(try Yams.compose(yaml: text))["jobs"]
        #expect(jobs?["image"]?["needs"]?.string == "test")
        for part in [
            "type=ref,event=branch", "type=sha,prefix={{branch}}-", "ghcr.io/", "workflow_dispatch", ".ci/run",
        ] {
            #expect(text.contains(part), "\(part)")
        }
    }

    // MARK: n8n

    private func flow(_ name: String) throws -> JSON {
        try JSON.parse(Array(try Data(contentsOf: deploy.appendingPathComponent("n8n/\(name).json"))), maxDepth: 64)
    }

    private static let flows = [
        "coda-to-calendar-sync", "calendar-to-coda-sync", "event-logger", "daily-observer-trigger",
        "weekly-observer-trigger",
    ]

    @Test("Each workflow is active, begins as it should, and every link leads to a node", arguments: flows)
    func workflows(_ name: String) throws {
        let flow = try flow(name)
        #expect(flow["name"]?.string == name && flow["active"] == true)
        let nodes = flow["nodes"]?.array ?? []
        let names = Set(nodes.compactMap { $0["name"]?.string })
        #expect(names.count == nodes.count)
        for member in flow["connections"]?.object?.members ?? [] {
            #expect(names.contains(member.key))
            for output in member.value["main"]?.array ?? [] {
                for link in output.array ?? [] { #expect(names.contains(link["node"]?.string ?? "")) }
            }
        }
        let starts = [
            "coda-to-calendar-sync": "coda/task-created", "calendar-to-coda-sync": "gcal/event-updated",
            "event-logger": "events/log", "daily-observer-trigger": "0 18 * * *",
            "weekly-observer-trigger": "0 18 * * 5",
        ]
        let first = nodes.first?["parameters"]
        let start = first?["path"] ?? first?["rule"]?["interval"]?.array?.first?["expression"]
        #expect(start?.string == starts[name])
        // Credentials are named, never held.
        let text = String(decoding: flow.encoded, as: UTF8.self)
        #expect(
            !text.contains("Bearer ") && !text.lowercased().contains("password") && !text.contains("hooks.slack.com"))
        #expect(text.contains("/api/v1/memory/events"))
    }

    @Test(
        "Every call is tried again after 2, 4 and 8 seconds, and then Slack is told and the execution fails",
        arguments: flows)
    func retries(_ name: String) throws {
        let flow = try flow(name)
        let nodes = flow["nodes"]?.array ?? []
        func node(_ name: String) -> JSON? { nodes.first { $0["name"]?.string == name } }
        func next(_ name: String, _ output: Int = 0) -> String? {
            let outputs = flow["connections"]?[name]?["main"]?.array ?? []
            return outputs.count > output ? outputs[output].array?.first?["node"]?.string : nil
        }
        let calls = nodes.filter { $0["onError"] == "continueErrorOutput" }.compactMap { $0["name"]?.string }
        #expect(!calls.isEmpty)
        for call in calls {
            let count = try #require(next(call, 1))
            #expect(
                node(count)?["parameters"]?["assignments"]?["assignments"]?.array?.first?["value"]
                    == "={{ $runIndex + 1 }}")
            let again = try #require(next(count))
            let condition = node(again)?["parameters"]?["conditions"]?["conditions"]?.array?.first
            #expect(condition?["rightValue"] == 3 && condition?["operator"]?["operation"] == "lte")
            let wait = try #require(next(again, 0))
            #expect(node(wait)?["parameters"]?["amount"] == "={{ Math.pow(2, $json.attempt) }}" && next(wait) == call)
            let tell = try #require(next(again, 1))
            #expect(node(tell)?["parameters"]?["url"] == "={{ $env.SLACK_WEBHOOK_URL }}")
            #expect(node(try #require(next(tell)))?["type"] == "n8n-nodes-base.stopAndError")
        }
    }

    // MARK: Scripts

    /// Runs a script with a docker that notes its arguments and answers as `docker` says.
    private func run(
        _ script: String, _ arguments: [String] = [], docker: String = "exit 0", in folder: URL,
        from scripts: URL? = nil, _ extra: [String: String] = [:]
    ) async throws -> (status: Int32, output: String, calls: [String]) {
        let bin = folder.appendingPathComponent("bin")
        try FileManager.default.createDirectory(at: bin, withIntermediateDirectories: true)
        let shim = bin.appendingPathComponent("docker")
        try "#!/bin/bash\necho \"$*\" >> \(folder.path)/calls\n\(docker)\n".write(
            to: shim, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: shim.path)
        let environment = [
            "PATH": "\(bin.path):/usr/bin:/bin:/usr/sbin:/sbin", "LOG_FILE": folder.appendingPathComponent("log").path,
        ].merging(extra) { _, new in new }
        let path = (scripts ?? deploy).appendingPathComponent(script).path
        let program = try await FinishedProgram.run(
            URL(fileURLWithPath: "/bin/bash"), arguments: [path] + arguments, environment: environment)
        let calls = (try? String(contentsOf: folder.appendingPathComponent("calls"), encoding: .utf8)) ?? ""
        return (program.status, program.output + program.errors, calls.split(separator: "\n").map(String.init))
    }

    private func withFolder(_ test: (URL) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("deploy-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try await test(folder)
    }

    private static let scripts = [
        "deploy.sh", "verify.sh", "backup.sh", "restore.sh", "setup_vps.sh", "archon-deprecate.sh",
    ]

    @Test("Every script has help, and names an option that it does not know", arguments: scripts)
    func help(_ script: String) async throws {
        try await withFolder { folder async throws in
            let help = try await run(script, ["--help"], in: folder)
            #expect(help.status == 0 && help.output.contains("--dry-run") && help.output.contains(script))
            #expect(help.calls.isEmpty)
            let wrong = try await run(script, ["--frobnicate"], in: folder)
            #expect(wrong.status == 1 && wrong.output.contains("--frobnicate"))
        }
    }

    @Test("Archon is archived, taken down and noted; a second run changes nothing")
    func archon() async throws {
        try await withFolder { folder async throws in
            let from = folder.appendingPathComponent("archon")
            try FileManager.default.createDirectory(at: from, withIntermediateDirectories: true)
            try "services: {}\n".write(
                to: from.appendingPathComponent("docker-compose.yml"), atomically: true, encoding: .utf8)
            let inventory = folder.appendingPathComponent("SERVICE_INVENTORY.md")
            try "# Services\n".write(to: inventory, atomically: true, encoding: .utf8)
            let arguments = [
                "--from", from.path, "--archive", folder.appendingPathComponent("archive").path, "--inventory",
                inventory.path,
            ]
            let dry = try await run("archon-deprecate.sh", arguments + ["--dry-run"], in: folder)
            #expect(dry.status == 0 && dry.output.contains("would run"))
            #expect(try String(contentsOf: inventory, encoding: .utf8) == "# Services\n")
            for _ in 0..<2 {
                let result = try await run("archon-deprecate.sh", arguments, in: folder)
                #expect(result.status == 0 && result.output.contains("MB more are available"))
                #expect(result.calls.contains { $0.hasSuffix(" down") })
                #expect(result.calls.contains("rm -f archon-server"))
            }
            let archived = try FileManager.default.contentsOfDirectory(
                atPath: folder.appendingPathComponent("archive").path)
            #expect(archived.count == 1 && archived[0].wholeMatch(of: /archon-\d{8}\.yml/) != nil)
            let text = try String(contentsOf: inventory, encoding: .utf8)
            #expect(text.components(separatedBy: "DEPRECATED (2025-12-01)").count == 2)
            #expect(text.contains("Replaced by Planner & Memory Architecture system") && text.contains(archived[0]))
        }
    }

    @Test("verify stops at the first tier that fails, and says which")
    func verify() async throws {
        try await withFolder { folder async throws in
            let good = try await run(
                "verify.sh", docker: "case \"$*\" in *ping) echo PONG ;; *policy) echo allkeys-lru ;; esac", in: folder)
            #expect(good.status == 0 && good.output.contains("all tiers are good"))
            let bad = try await run(
                "verify.sh",
                docker:
                    "case \"$*\" in *ping) echo PONG ;; *policy) echo allkeys-lru ;; */health/ready) exit 22 ;; esac",
                in: folder)
            #expect(bad.status == 1 && bad.output.contains("FAILED: the primary store serves"))
        }
    }

    /// A copy of the scripts, beside an `.env` of their own.
    private func installed(in folder: URL, _ environment: String) throws -> URL {
        let copy = folder.appendingPathComponent("deploy")
        try FileManager.default.copyItem(at: deploy, to: copy)
        try environment.write(to: folder.appendingPathComponent(".env"), atomically: true, encoding: .utf8)
        return copy
    }

    @Test("Nothing but the gateway gets its passwords and keys")
    func secrets() throws {
        for (name, service) in try services() where name != "memory-gateway" {
            #expect(service["env_file"] == nil, "\(name)")
        }
        for (agent, key) in [
            ("planner-engine", "PLANNER"), ("scheduler-engine", "SCHEDULER"), ("observer-agent", "OBSERVER"),
        ] {
            let environment = try #require(try yaml("docker-compose.yml")["services"]?[agent]?["environment"]?.mapping)
            let text = environment.values.compactMap(\.string).joined(separator: " ")
            #expect(environment["MEMORY_GATEWAY_API_KEY"]?.string == "${\(key)_API_KEY:-}")
            for secret in ["{API_KEYS", "PASSWORD", "DATABASE_URL", "VALKEY_URL", "QDRANT_API_KEY"] {
                #expect(!text.contains(secret), "\(agent)")
            }
        }
    }

    @Test("deploy does not go public without keys, unless that is asked for")
    func keys() async throws {
        for (environment, isRefused) in [
            ("POSTGRES_PASSWORD=x\n", true), ("POSTGRES_PASSWORD=x\nAPI_KEYS=\n", true),
            ("POSTGRES_PASSWORD=x\nAPI_KEYS=\nALLOW_ANONYMOUS=true\n", false),
            ("POSTGRES_PASSWORD=x\nAPI_KEYS=0123456789abcdef\n", false),
        ] {
            try await withFolder { folder in
                let scripts = try installed(in: folder, environment)
                let result = try await run("deploy.sh", ["--dry-run"], in: folder, from: scripts)
                #expect((result.status != 0) == isRefused, "\(environment): \(result.output)")
                #expect(result.output.contains("API_KEYS") == isRefused)
            }
        }
    }

    @Test("deploy marks a healthy image, and puts the one before back when the new one is not healthy")
    func rollback() async throws {
        try await withFolder { folder async throws in
            let scripts = try installed(in: folder, "POSTGRES_PASSWORD=x\nAPI_KEYS=0123456789abcdef\n")
            // It serves until the new image is up; then only the last good one does.
            let docker = """
                case "$*" in
                    "compose version") ;;
                    *"{{.Image}}"*) echo sha256:before ;;
                    *"/health/ready") last=$(grep -E ' up -d' \(folder.path)/calls | tail -1)
                        case "$MODE$last" in good* | bad | *no-build*) ;; *) exit 1 ;; esac ;;
                esac
                case "$*" in *"up -d --no-build"*) echo "image $GATEWAY_IMAGE" >> \(folder.path)/calls ;; esac
                """
            let good = try await run(
                "deploy.sh", docker: docker, in: folder, from: scripts, ["MODE": "good", "HEALTH_SECONDS": "1"])
            #expect(good.status == 0, "\(good.output)")
            #expect(good.calls.contains("tag memory-gateway:local memory-gateway:last-good"))
            try FileManager.default.removeItem(at: folder.appendingPathComponent("calls"))
            let bad = try await run(
                "deploy.sh", docker: docker, in: folder, from: scripts, ["MODE": "bad", "HEALTH_SECONDS": "1"])
            #expect(bad.status == 1 && bad.output.contains("rolled back to the last good image"), "\(bad.output)")
            #expect(bad.calls.contains("tag sha256:before memory-gateway:last-good"))
            #expect(bad.calls.contains("image memory-gateway:last-good"))
            #expect(!bad.calls.contains("tag memory-gateway:local memory-gateway:last-good"))
        }
    }

    @Test(
        "Backed up, everything lost, restored: the same recalls answer, on real servers behind a shim of docker",
        .timeLimit(.minutes(5)))
    func backupAndRestore() async throws {
        try await TestWorld.with(own: [.postgres, .valkey, .qdrant]) { world async throws in
            let contents = ["tea at four", "deep work in the morning", "the train leaves at nine"]
            try await world.withMemory { memory async throws in
                for content in contents { _ = try await memory.remember(content, client: world.client) }
                try await world.eventually("nothing is owed") { try await memory.outboxCounts().pending == 0 }
            }
            let folder = FileManager.default.temporaryDirectory.appendingPathComponent("restore-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: folder) }
            let scripts = try installed(in: folder, "POSTGRES_USER=postgres\nPOSTGRES_DB=postgres\n")
            let environment = Self.environment(of: world)
            let shim = Self.shim(folder, environment)
            let backup = try await run(
                "backup.sh", ["--to", "\(folder.path)/kept"], docker: shim, in: folder, from: scripts)
            #expect(backup.status == 0, "\(backup.output)")
            let kept = try #require(try FileManager.default.contentsOfDirectory(atPath: "\(folder.path)/kept").first)

            try await world.execute("DROP SCHEMA public CASCADE")
            try await world.execute("CREATE SCHEMA public")
            let qdrant = try QdrantClient(world.configuration.qdrant)
            for collection in VectorCollection.all {
                _ = try await qdrant.send(
                    .delete, "/collections/\(collection)", deadline: .after(.seconds(10)))
            }
            await qdrant.close()

            let restore = try await run(
                "restore.sh", ["\(folder.path)/kept/\(kept)", "--yes"], docker: shim, in: folder, from: scripts)
            #expect(restore.status == 0 && restore.output.contains("restored from"), "\(restore.output)")
            try await world.withMemory { memory async throws in
                for content in contents {
                    let answer = try await memory.recall(RecallRequest(query: content, clientID: world.client))
                    #expect(answer.hits.first?.record.content == content && !answer.isDegraded)
                    #expect(answer.hits.count == contents.count)
                }
            }
        }
    }

    private static func environment(of world: TestWorld) -> String {
        let configuration = world.configuration
        return """
            export POSTGRES_PORT=\(configuration.postgres.port) POSTGRES_DB=postgres POSTGRES_USER=postgres \
                VALKEY_PORT=\(configuration.valkey.port) VALKEY_KEY_PREFIX=\(configuration.valkey.keyPrefix) \
                QDRANT_URL=\(configuration.qdrant.url) PGHOST=127.0.0.1 PGPORT=\(configuration.postgres.port)
            """
    }

    /// A docker whose containers are the servers of a test and this very program. The gateway is not kept running: its
    /// start does what a start does to the stores, and it serves when doctor says so.
    private static func shim(_ folder: URL, _ environment: String) -> String {
        let binary = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent("memory-gateway").path
        return """
            \(environment)
            case "$*" in
                "inspect qdrant") exit 1 ;;
                "start memory-gateway") \(binary) migrate > /dev/null && \(binary) setup > /dev/null ;;
                "exec memory-gateway curl "*) \(binary) doctor > /dev/null ;;
                "cp valkey:"*) mkdir -p "${3}" ;;
                "exec valkey redis-cli "*) exec 3<> /dev/tcp/127.0.0.1/$VALKEY_PORT
                    printf '%s\\r\\n' "${*:4}" >&3
                    read -r answer <&3
                    case $answer in -*) echo "$answer" >&2; exit 1 ;; esac ;;
                "exec memory-gateway memory-gateway "*) exec \(binary) "${@:4}" ;;
                "exec -i postgres "*) exec "${@:4}" ;;
                "exec postgres "*) exec "${@:3}" ;;
            esac
            """
    }

    @Test("A restore wants a backup and a yes")
    func restore() async throws {
        try await withFolder { folder async throws in
            #expect(try await run("restore.sh", [], in: folder).status == 1)
            #expect(
                try await run("restore.sh", [folder.path, "--yes"], in: folder).output.contains("no postgres.dump"))
            try "x".write(to: folder.appendingPathComponent("postgres.dump"), atomically: true, encoding: .utf8)
            let unsure = try await run("restore.sh", [folder.path], in: folder)
            #expect(unsure.status == 1 && unsure.output.contains("--yes") && unsure.calls.isEmpty)
        }
    }
}
