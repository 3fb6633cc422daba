import HTTPTypes
import Hummingbird
import Logging
import MemoryCore

/// Wires the gateway together; the tests call it as the program does.
func buildApplication(
    memory: Memory, configuration: GatewayConfiguration, logger: Logger
) -> some ApplicationProtocol {
    Application(
        router: buildRouter(memory: memory),
        configuration: ApplicationConfiguration(
            address: .hostname(configuration.host, port: configuration.port), serverName: nil),
        onServerRunning: { channel in
            let address = channel.localAddress.map { "\($0)" } ?? ""
            logger.notice("Listening", metadata: [LogKey.address: "\(address)"])
        },
        logger: logger)
}

func buildRouter(memory: Memory) -> Router<GatewayContext> {
    let router = Router(context: GatewayContext.self)
    router.addMiddleware {
        RequestIDMiddleware()
        ErrorMiddleware()
    }
    HealthRoutes(memory: memory).add(to: router)
    let group = router.group("/api/v1/memory")
    RememberRoutes(memory: memory).add(to: group)
    RecallRoutes(memory: memory).add(to: group)
    RecordRoutes(memory: memory).add(to: group)
    return router
}
