import Configuration
import Logging
import MemoryCore

/// How the gateway itself runs.
struct GatewayConfiguration: Sendable {
    /// The address to listen on. Loopback, because without keys the gateway is open.
    var host = "127.0.0.1"
    /// The port to listen on.
    var port = 8090
    /// From which level on to log.
    var logLevel = Logger.Level.info

    init() {}

    /// - `API_HOST` (127.0.0.1), `API_PORT` or `PORT` (8090), `LOG_LEVEL` (info)
    ///
    /// - Throws: ``MemoryError`` with `configuration`, naming the variable.
    init(reader: ConfigReader) throws(MemoryError) {
        let settings = Settings(reader: reader)
        host = settings.string("API_HOST") ?? host
        let ports = (try settings.int("API_PORT", 0...65_535), try settings.int("PORT", 0...65_535))
        port = ports.0 ?? ports.1 ?? port
        guard let name = settings.string("LOG_LEVEL") else { return }
        guard let level = Logger.Level(rawValue: name.lowercased()) else {
            let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw Settings.wrong("LOG_LEVEL", "one of \(levels)")
        }
        logLevel = level
    }
}
