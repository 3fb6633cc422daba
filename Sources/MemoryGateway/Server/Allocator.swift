import CMalloc

/// How this process gives memory back.
enum Allocator {
    /// Large blocks go back to the system when they are freed, so do heaps that are empty at their end, and there are two.
    ///
    /// glibc learns from the first large block that is freed: the next ones come from the heap of their thread, up to 32 MiB,
    /// and each heap keeps twice as much. With bodies of 16 MiB among other requests the process grew to 872 MB; like this
    /// it has 115 MB at its peak, and 57 MB afterwards (N11).
    static func giveBackLargeBlocks() {
        mallopt(M_ARENA_MAX, 2)
        mallopt(M_MMAP_THRESHOLD, 256 << 10)
        mallopt(M_TRIM_THRESHOLD, 1 << 20)
    }
}
