import ArgumentParser
import Configuration
import CoreMetrics
import Glibc
import Hummingbird
import Logging
import MemoryCore
import ServiceLifecycle
import Synchronization
import UnixSignals

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Starts the gateway (what happens without a subcommand).",
        discussion: """
            Stops on SIGTERM, SIGINT or SIGHUP: it takes no new requests, ends those under way, and exits within 30 seconds.
            """)

    @Option(help: "The address to listen on; before API_HOST.")
    var host: String?

    @Option(help: "The port to listen on; before API_PORT and PORT.")
    var port: Int?

    func run() async throws {
        Allocator.giveBackLargeBlocks()
        let reader = ConfigReader(provider: EnvironmentVariablesProvider())
        let (gateway, configuration) = try await failing { () throws(MemoryError) in
            var gateway = try GatewayConfiguration(reader: reader)
            gateway.host = host ?? gateway.host
            gateway.port = port ?? gateway.port
            return (gateway, try MemoryConfiguration(reader: reader))
        }
        GatewayLogging.bootstrap(level: gateway.logLevel)
        MetricsSystem.bootstrap(MetricsRegistry.shared)
        let logger = Logger(label: "memory-gateway")
        let memory = try await failing { () throws(MemoryError) in
            try await Memory.open(configuration, logger: logger)
        }
        let application = buildApplication(memory: memory, configuration: gateway, logger: logger)
        logger.notice(
            "Memory Gateway",
            metadata: [
                "version": "\(GatewayVersion.current)", "records": "\(memory.places.records)",
                "vectors": "\(memory.places.vectors)", "short_term": "\(memory.places.shortTerm)",
                LogKey.model: "\(memory.embeddingModel)",
            ])
        if try await failing({ () throws(MemoryError) in try await memory.isOpen() }) {
            guard gateway.allowsAnonymous else {
                await memory.close()
                throw ValidationFailure(
                    message: """
                        There are no API keys, and \(gateway.host) is not loopback: whoever reaches it would read and write \
                        every memory. Create a key (memory-gateway keys create NAME), set API_KEYS, or ask for an open \
                        gateway with ALLOW_ANONYMOUS=true
                        """)
            }
            logger.warning("There are no API keys: whoever reaches this address reads and writes every memory")
        }
        try await serve(memory, application, logger)
    }

    /// Runs until a signal ends it, and says so: which it was, how much was under way, and when it was over.
    private func serve(_ memory: Memory, _ application: some Service, _ logger: Logger) async throws {
        // Services end in the reverse of this order: the listener after a moment, then the memory that it needs.
        var group = ServiceGroupConfiguration(
            services: [memory, application, Linger()], gracefulShutdownSignals: [], logger: logger)
        group.maximumGracefulShutdownDuration = .seconds(28)
        let services = ServiceGroup(configuration: group)
        async let _: Void = stop(services, memory, logger)
        do {
            try await services.run()
        } catch {
            logger.error("Stopped by an error", metadata: [LogKey.error: "\(error)"])
            throw error
        }
        logger.notice("Stopped")
    }

    /// Ends the services with the first signal, and says so with each.
    private func stop(_ services: ServiceGroup, _ memory: Memory, _ logger: Logger) async {
        for await signal in await UnixSignalsSequence(trapping: Self.signals) {
            logger.notice(
                "Stopping",
                metadata: [
                    LogKey.name: "\(signal)", LogKey.count: "\(RequestMetrics.underWay.load(ordering: .relaxed))",
                    "followers": "\(memory.followers)",
                ])
            await services.triggerGracefulShutdown()
        }
    }

    /// What stops the program. Whoever started it with SIGHUP ignored, as `nohup` does, wants it to outlive the terminal.
    private static var signals: [UnixSignal] {
        var action = sigaction()
        sigaction(SIGHUP, nil, &action)
        let isIgnored = unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
        return [.sigterm, .sigint] + (isIgnored ? [] : [.sighup])
    }
}
