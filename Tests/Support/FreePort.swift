import Glibc

/// A port that nobody listens on: two runs of the tests on one machine must not meet.
package func freePort() throws -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = unsafe withUnsafeMutablePointer(to: &address) { pointer in
        unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
            guard unsafe bind(descriptor, generic, length) == 0 else { return Int32(-1) }
            return unsafe getsockname(descriptor, generic, &length)
        }
    }
    guard status == 0 else { throw TestServers.Failure(description: "no free port: \(errno)") }
    return Int(in_port_t(bigEndian: address.sin_port))
}
