import Dispatch
import Glibc
import Synchronization

/// Looks up the addresses of hosts on threads of its own: the C libraries' own look-ups wait for a silent name server far past
/// any deadline. Where no answer comes, what was found last still counts.
final class NameResolver: Sendable {
    static let shared = NameResolver()

    /// How long a new answer is waited for where an old one is known; the rest of the deadline is for connecting.
    private static let patience: Duration = .milliseconds(200)

    private struct Entry {
        var known: [String] = []
        /// The look-up that is under way, which everyone waits for.
        var running: DispatchGroup?
    }

    private let entries = Mutex<[String: Entry]>([:])
    private let lookUp: @Sendable (String) -> [String]

    init(lookUp: @escaping @Sendable (String) -> [String] = NameResolver.system) { self.lookUp = lookUp }

    /// The addresses of a host, the one to try first first; an address is its own. Blocks its thread, at most until the
    /// deadline.
    ///
    /// - Throws: ``MemoryError``: `unavailable` when there are none, `timeout` when nobody says.
    func addresses(
        of host: String, for store: MemoryError.Store, deadline: Deadline
    ) throws(MemoryError) -> [String] {
        guard Self.isName(host) else { return [host] }
        let group = try running(host)
        let isKnown = entries.withLock { $0[host]?.known.isEmpty == false }
        let limit = isKnown ? deadline.capped(at: Self.patience) : deadline
        let isDone = group.wait(timeout: .now() + .milliseconds(Int(limit.remainingMilliseconds))) == .success
        let known = entries.withLock { $0[host]?.known ?? [] }
        guard known.isEmpty else { return known }
        throw isDone
            ? .unavailable(store, "the host's name is not known") : .timeout(store, "the name server is silent")
    }

    /// Whether it is neither an address, nor a list, nor a path.
    static func isName(_ host: String) -> Bool {
        var address = in6_addr()
        let isAddress = unsafe inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1
        return !isAddress && !host.isEmpty && !host.contains(where: { ",/@".contains($0) })
    }

    private func running(_ host: String) throws(MemoryError) -> DispatchGroup {
        let (group, isNew) = entries.withLock { entries -> (DispatchGroup, Bool) in
            if let group = entries[host]?.running { return (group, false) }
            let group = DispatchGroup()
            group.enter()
            entries[host, default: Entry()].running = group
            return (group, true)
        }
        guard isNew else { return group }
        do {
            try startThread { [self] in finish(host, lookUp(host), group) }
        } catch {
            finish(host, [], group)
            throw error
        }
        return group
    }

    private func finish(_ host: String, _ found: [String], _ group: DispatchGroup) {
        entries.withLock { entries in
            entries[host]?.running = nil
            if !found.isEmpty { entries[host]?.known = found }
        }
        group.leave()
    }

    /// Asks the system, however long that takes.
    private static let system: @Sendable (String) -> [String] = { host in
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard unsafe getaddrinfo(host, nil, &hints, &list) == 0 else { return [] }
        defer { unsafe freeaddrinfo(list) }
        var found: [String] = []
        var next = unsafe list
        while let entry = unsafe next {
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            let status = unsafe getnameinfo(
                entry.pointee.ai_addr, entry.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
            if status == 0 {
                found.append(String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
            }
            next = unsafe entry.pointee.ai_next
        }
        return found
    }
}
