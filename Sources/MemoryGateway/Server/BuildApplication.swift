import HTTPTypes
import Hummingbird
import Logging
import MemoryCore

/// Wires the gateway together; the tests call it as the program does.
func buildApplication(
    memory: Memory, configuration: GatewayConfiguration, logger: Logger
) -> some ApplicationProtocol {
    Application(
        router: buildRouter(memory: memory, configuration: configuration),
        // Longer than the 90 seconds for which Traefik keeps an idle connection: it must be the one to close.
        server: .http1(
            configuration: .init(additionalChannelHandlers: [SlowClientHandler()], idleTimeout: .seconds(100))),
        configuration: ApplicationConfiguration(
            address: .hostname(configuration.host, port: configuration.port), serverName: nil,
            availableConnectionsDelegate: .maximum(configuration.maxConnections, logger: logger)),
        onServerRunning: { channel in
            let address = channel.localAddress.map { "\($0)" } ?? ""
            logger.notice("Listening", metadata: [LogKey.address: "\(address)"])
        },
        logger: logger)
}

func buildRouter(
    memory: Memory, configuration: GatewayConfiguration = GatewayConfiguration()
) -> Router<GatewayContext> {
    let router = Router(context: GatewayContext.self, options: .autoGenerateHeadEndpoints)
    router.add(middleware: EdgeMiddleware())
    let admission = Admission(
        memory: memory, configuration: configuration, refusals: Refusals(logger: Logger(label: "memory-gateway")))
    let gate = OverloadGate(limits: configuration.admission, logger: Logger(label: "memory-gateway"))
    let bodies = BodyReading(budget: BodyBudget(bytes: configuration.maxBodyBytes))
    EndpointRouter(memory: memory, admission: admission, gate: gate, bodies: bodies)
        .add(Endpoint.all, to: router)
    return router
}
