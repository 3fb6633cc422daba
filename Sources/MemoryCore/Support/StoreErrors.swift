import Metrics

/// Counts what went wrong in each store, where its adapter sees it.
struct StoreErrors: Sendable {
    private let counter: Counter

    init(_ store: MemoryError.Store) {
        counter = Counter(label: "memory_gateway_store_errors_total", dimensions: [("store", store.description)])
    }

    /// Counts an error that is the store's; what the input is at fault for is not.
    func count(_ error: MemoryError) {
        if [.unavailable, .timeout, .badReply].contains(error.code) { counter.increment() }
    }
}
