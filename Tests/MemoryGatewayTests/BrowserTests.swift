import HTTPTypes
import MemoryTestSupport
import Testing

@testable import MemoryCore
@testable import MemoryGateway

/// A web page cannot reach a gateway without keys, whatever it has a browser say.
@Suite("Browsers")
struct BrowserTests {
    private static let path = "/api/v1/memory/events"

    @Test(
        "Without keys only addresses, localhost and allowed names are hosts", .timeLimit(.minutes(5)),
        arguments: [
            ("localhost", true), ("LOCALHOST:8090", true), ("localhost.", true), ("localhost.:8090", true),
            ("127.0.0.1", true), ("127.0.0.1:8090", true), ("[::1]", true), ("[::1]:8090", true),
            ("[::ffff:127.0.0.1]:8090", true), ("192.168.7.1:80", true), ("memory.lan", true),
            ("Memory.LAN.:8090", true),
            ("evil.example", false), ("evil.example:8090", false), ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false), ("127.0.0.1.nip.io:8090", false), ("evil.localhost", false),
            ("memory.lan.evil.example", false), ("localhost:port", false), ("localhost:99999", false),
            ("localhost:80:90", false), ("a@localhost", false), ("[localhost]", false), ("[127.0.0.1]", false),
            ("[::1", false), ("::1", false), ("[::1]evil.example", false), ("0x7f.1", false), ("2130706433", false),
            ("127.1", false), ("", false), (".", false), ("local host", false), ("localhöst", false), (nil, false),
        ] as [(String?, Bool)])
    func hosts(_ host: String?, _ isAllowed: Bool) async throws {
        var configuration = GatewayConfiguration()
        configuration.browsers = try BrowserGuard("memory.lan, other.lan")
        try await TestGateway.with(.embedded, configuration: configuration) { gateway async throws in
            for path in [Self.path, "/docs", "/openapi.json", "/metrics"] {
                let reply = try await gateway.send(.get, path, host: host)
                #expect(reply.status == (isAllowed ? 200 : 403), "\(path)")
            }
            for path in ["/health", "/health/live", "/health/ready"] {
                #expect(try await gateway.send(.get, path, host: host).status == 200, "\(path)")
            }
        }
    }

    @Test("Without keys no page of another origin is answered", .timeLimit(.minutes(5)))
    func origins() async throws {
        var configuration = GatewayConfiguration()
        configuration.browsers = try BrowserGuard("memory.lan")
        try await TestGateway.with(.embedded, configuration: configuration) { gateway async throws in
            for (host, origin, isAllowed) in [
                ("localhost:8090", "http://localhost:8090", true), ("LocalHost:8090", "HTTP://LOCALHOST:8090", true),
                ("[::1]:8090", "http://[::1]:8090", true), ("127.0.0.1", "http://127.0.0.1:80", true),
                ("localhost:8090", "https://memory.lan", true), ("localhost:8090", "http://memory.lan:3000", true),
                ("localhost:8090", "null", false), ("localhost:8090", "", false),
                ("localhost:8090", "http://localhost:3000", false), ("localhost:8090", "http://localhost", false),
                ("localhost:8090", "http://evil.example", false), ("localhost:8090", "http://127.0.0.1:8090", false),
                ("localhost:8090", "file://", false), ("localhost:8090", "http://localhost:8090/", false),
                ("localhost:8090", "http://localhost:8090, http://evil.example", false),
                ("localhost:8090", "http://localhost:8090.evil.example", false),
                ("localhost:8090", "http://memory.lan.evil.example", false),
            ] as [(String, String, Bool)] {
                let reply = try await gateway.send(.get, Self.path, headers: [.origin: origin], host: host)
                #expect(reply.status == (isAllowed ? 200 : 403), "\(origin) to \(host)")
                let draft: JSON = ["event_type": "a", "event_source": "b", "payload": [:]]
                let write = try await gateway.send(
                    .post, Self.path, body: draft.encoded, headers: [.origin: origin], host: host)
                #expect(write.status == (isAllowed ? 201 : 403), "\(origin) to \(host)")
                #expect(try await gateway.send(.get, "/health", headers: [.origin: origin], host: host).status == 200)
            }
            // An image or a `no-cors` request names no origin.
            for (site, isAllowed) in [
                ("cross-site", false), ("same-site", false), ("same-origin", true), ("none", true),
            ] as [(String, Bool)] {
                let reply = try await gateway.send(.get, Self.path, headers: [.secFetchSite: site])
                #expect(reply.status == (isAllowed ? 200 : 403), "\(site)")
                #expect(try await gateway.send(.get, "/docs", headers: [.secFetchSite: site]).status == 200)
            }
        }
    }

    @Test("With keys any host and origin may ask, and is asked for a key", .timeLimit(.minutes(5)))
    func withKeys() async throws {
        try await TestGateway.with(.embedded) { gateway async throws in
            let key = try await gateway.memory.createKey(APIKeyDraft(name: "some")).text
            let headers: HTTPFields = [.apiKey: key.revealed, .origin: "https://app.example"]
            #expect(try await gateway.send(.get, Self.path, headers: headers, host: "memory.example").status == 200)
            #expect(try await gateway.send(.get, Self.path, host: "memory.example").status == 401)
            #expect(try await gateway.send(.get, "/docs", host: "memory.example").status == 200)
        }
    }

    @Test("A gateway beyond loopback serves without keys only where that is asked for", .timeLimit(.minutes(5)))
    func beyondLoopback() async throws {
        for (host, isAsked, isServed) in [
            ("0.0.0.0", false, false), ("::", false, false), ("10.0.0.1", false, false), ("myhost", false, false),
            ("127.0.0.1", false, true), ("127.9.9.9", false, true), ("::1", false, true), ("localhost", false, true),
            ("::ffff:127.0.0.1", false, true), ("0.0.0.0", true, true),
        ] as [(String, Bool, Bool)] {
            var configuration = GatewayConfiguration()
            (configuration.host, configuration.isAnonymousAsked) = (host, isAsked)
            try await TestGateway.with(.embedded, configuration: configuration) { gateway async throws in
                let status = try await gateway.get(Self.path).status
                #expect(status == (isServed ? 200 : 401), "\(host)")
                #expect(try await gateway.get("/health").status == 200)
            }
        }
    }

    @Test("Names that are no names are refused at the start")
    func settings() throws {
        for text in ["a b:1", "localhost:8090", "http://memory.lan", "*", "a/b"] {
            #expect(throws: MemoryError.self, "\(text)") { try BrowserGuard(text) }
        }
        _ = try BrowserGuard("memory.lan, 10.0.0.1,[::1]")
    }
}
