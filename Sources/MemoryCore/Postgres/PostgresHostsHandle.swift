import CPostgres
import Glibc

/// One address at which a server may be: what libpq must be told of it, beside what is the same for all.
struct PostgresHost: Sendable {
    let parameters: [(String, String)]

    /// What tells it from others.
    var key: String { parameters.map { "\($0.0)=\($0.1)" }.joined(separator: " ") }
}

/// The hosts of a configuration, in its order.
struct PostgresHosts: Sendable {
    /// As it was set: a part that is nil is left to libpq.
    private struct Place: Sendable {
        var host: String?
        var address: String?
        var port: String?
    }

    private let places: [Place]

    init(_ configuration: PostgresConfiguration) {
        guard let url = configuration.url else {
            places = [Place(host: configuration.host, port: String(configuration.port))]
            return
        }
        places = Self.places(unsafe Self.options(url))
    }

    /// Whether there is more than one to choose from.
    var areSeveral: Bool { places.count > 1 }

    /// Every address of every host. Names are looked up here: libpq would do it by itself, without a deadline. It still checks
    /// a certificate by the name.
    ///
    /// - Throws: ``MemoryError`` when there is none.
    func addresses(deadline: Deadline) throws(MemoryError) -> [PostgresHost] {
        var found: [PostgresHost] = []
        var failure: MemoryError?
        // One name that nobody knows must not take the time of the others.
        let limit = areSeveral ? deadline.capped(at: .milliseconds(500)) : deadline
        for place in places {
            do throws(MemoryError) {
                found += try Self.addresses(place, limit)
            } catch {
                failure = error
            }
        }
        guard found.isEmpty else { return found }
        throw failure ?? .unavailable(.postgres, "no host is set")
    }

    private static func addresses(_ place: Place, _ deadline: Deadline) throws(MemoryError) -> [PostgresHost] {
        func host(_ address: String?) -> PostgresHost {
            let parameters = [("host", place.host), ("hostaddr", address), ("port", place.port)]
            return PostgresHost(parameters: parameters.compactMap { name, value in value.map { (name, $0) } })
        }
        guard let name = place.host, place.address == nil, NameResolver.isName(name) else {
            return [host(place.address)]
        }
        return try NameResolver.shared.addresses(of: name, for: .postgres, deadline: deadline).map { host($0) }
    }

    // MARK: The URL

    private static func places(_ options: [String: String]) -> [Place] {
        func list(_ name: String) -> [String?] {
            guard let text = options[name] else { return [] }
            return text.split(separator: ",", omittingEmptySubsequences: false).map { $0.isEmpty ? nil : String($0) }
        }
        let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"))
        let count = max(hosts.count, addresses.count)
        // What does not fit together is libpq's to complain about.
        guard count > 0, [0, count].contains(hosts.count), [0, count].contains(addresses.count),
            [0, 1, count].contains(ports.count)
        else { return [Place()] }
        return (0..<count).map { index in
            Place(
                host: hosts.isEmpty ? nil : hosts[index], address: addresses.isEmpty ? nil : addresses[index],
                port: ports.count == 1 ? ports[0] : ports.isEmpty ? nil : ports[index])
        }
    }

    /// What a URI sets of where the server is; nothing when it is none.
    private static func options(_ url: Secret) -> [String: String] {
        let options = unsafe PQconninfoParse(url.revealed, nil)
        defer { unsafe PQconninfoFree(options) }
        var found: [String: String] = [:]
        var next = unsafe options
        while let option = unsafe next, let keyword = unsafe option.pointee.keyword {
            if let value = unsafe option.pointee.val, value.pointee != 0 {
                unsafe found[String(cString: keyword)] = unsafe String(cString: value)
            }
            unsafe next = option + 1
        }
        return found.filter { ["host", "hostaddr", "port"].contains($0.key) }
    }
}
