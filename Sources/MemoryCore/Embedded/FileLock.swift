import Glibc

/// The right of one process to a file. It ends with the process, however that ends.
struct FileLock: ~Copyable {
    private let descriptor: Int32

    /// Takes the right to `path`, by a lock on the file `path.lock` beside it.
    ///
    /// - Throws: ``MemoryError`` with `configuration`, naming the file, when another process has it.
    init(path: String) throws(MemoryError) {
        let descriptor = unsafe open(path + ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw MemoryError(.configuration, "\(path) cannot be opened: \(Self.reason)", store: .sqlite)
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw MemoryError(
                .configuration, "\(path) is in use by another process; stop it, or set MEMORY_DATA_DIR", store: .sqlite)
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    private static var reason: String { unsafe String(cString: strerror(errno)) }
}
