import HTTPTypes
import NIOCore
import NIOEmbedded
import NIOHTTPTypes
import Testing

@testable import MemoryGateway

@Suite("Slow clients")
struct SlowClientTests {
    private func with(_ test: (EmbeddedChannel) throws -> Void) throws {
        let channel = EmbeddedChannel(handler: SlowClientHandler())
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        let head = HTTPRequest(method: .get, scheme: "http", authority: "test", path: "/")
        try channel.writeInbound(HTTPRequestPart.head(head))
        try channel.writeInbound(HTTPRequestPart.end(nil))
        try test(channel)
        if channel.isActive { _ = try channel.finish(acceptAlreadyClosed: true) }
    }

    @Test("A connection that waits for its next request is left alone")
    func idle() throws {
        try with { channel in
            channel.embeddedEventLoop.advanceTime(by: .seconds(90))
            #expect(channel.isActive)
        }
    }

    @Test("A second request whose head drips is not waited for")
    func secondHead() throws {
        try with { channel in
            for _ in 0..<20 where channel.isActive {
                // Some bytes came, and are no request yet.
                channel.pipeline.fireChannelReadComplete()
                channel.embeddedEventLoop.advanceTime(by: .seconds(1))
            }
            #expect(!channel.isActive)
        }
    }

    @Test("A head that comes in pieces, in time, is served")
    func pieces() throws {
        try with { channel in
            for _ in 0..<5 {
                channel.pipeline.fireChannelReadComplete()
                channel.embeddedEventLoop.advanceTime(by: .seconds(2))
                let head = HTTPRequest(method: .get, scheme: "http", authority: "test", path: "/")
                try channel.writeInbound(HTTPRequestPart.head(head))
                try channel.writeInbound(HTTPRequestPart.end(nil))
                channel.embeddedEventLoop.advanceTime(by: .seconds(30))
                #expect(channel.isActive)
            }
        }
    }
}
