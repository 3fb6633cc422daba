import Foundation
import Hummingbird
import NIOCore

/// The floor of the benchmarks: a Hummingbird server that answers every GET with the bytes of a file, and does nothing else.
///
///     BareServer PORT FILE
@main
struct BareServer {
    static func main() async throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 3, let port = Int(arguments[1]) else {
            print("usage: BareServer PORT FILE")
            exit(2)
        }
        let bytes = ByteBuffer(bytes: try Data(contentsOf: URL(fileURLWithPath: arguments[2])))
        let router = Router()
        router.get("/bytes") { _, _ in
            Response(
                status: .ok, headers: [.contentType: "application/json; charset=utf-8"],
                body: ResponseBody(byteBuffer: bytes))
        }
        let application = Application(
            router: router, configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: port)))
        try await application.run()
    }
}
