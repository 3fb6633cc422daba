import FoundationEssentials
import Glibc
import MemoryCore

/// The text of `/metrics`: what was recorded, and what is looked up when it is asked for.
enum GatewayMetrics {
    static func text(_ memory: Memory) async -> String {
        let registry = MetricsRegistry.shared
        var text = registry.text()
        let hits = Double(registry.total("memory_gateway_cache_hits_total"))
        let misses = Double(registry.total("memory_gateway_cache_misses_total"))
        text += gauge("memory_gateway_cache_hit_rate", hits + misses > 0 ? hits / (hits + misses) : 0)
        // What has not happened yet is 0, not absent, or no alert could be written on it.
        for name in ["memory_gateway_embedding_requests_total", "memory_gateway_embedding_tokens_total"]
        where !text.contains("# TYPE \(name) ") { text += counter(name, 0) }
        if !text.contains("# TYPE memory_gateway_store_errors_total") {
            text += "# TYPE memory_gateway_store_errors_total counter\n"
            for (store, _) in await memory.health().dependencies {
                text += MetricsRegistry.line("memory_gateway_store_errors_total", "store=\"\(store)\"", "0")
            }
        }
        if let outbox = try? await memory.outboxCounts() {
            text += gauge("memory_gateway_outbox_pending", Double(outbox.pending))
            text += gauge("memory_gateway_outbox_dead", Double(outbox.dead))
        }
        if let share = memory.idsUsedRatio { text += gauge("memory_gateway_ids_used_ratio", share) }
        if let age = try? await memory.outboxAge() {
            text += gauge("memory_gateway_outbox_oldest_seconds", age.milliseconds / 1000)
        }
        text += gauge(
            "memory_gateway_reconciler_last_success_age_seconds", memory.reconciliationAge.milliseconds / 1000)
        text += gauge("memory_gateway_event_stream_followers", Double(memory.followers))
        text += gauge("memory_gateway_event_stream_held_up_seconds", memory.streamDelay.milliseconds / 1000)
        text += counter("memory_gateway_log_dropped_total", Double(LogWriter.standardError.dropped))
        if let evicted = await memory.evictedKeys() {
            text += counter("memory_gateway_valkey_evicted_keys_total", Double(evicted))
        }
        return text + process()
    }

    private static func gauge(_ name: String, _ value: Double) -> String {
        "# TYPE \(name) gauge\n\(name) \(value)\n"
    }

    private static func counter(_ name: String, _ value: Double) -> String {
        "# TYPE \(name) counter\n\(name) \(value)\n"
    }

    /// What the system knows of this process, under Prometheus' usual names.
    private static func process() -> String {
        var usage = rusage()
        guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return "" }
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        var text = counter("process_cpu_seconds_total", seconds(usage.ru_utime) + seconds(usage.ru_stime))
        if let pages = (try? String(contentsOf: URL(fileURLWithPath: "/proc/self/statm"), encoding: .utf8))?
            .split(separator: " ").dropFirst().first.flatMap({ Double($0) })
        {
            text += gauge("process_resident_memory_bytes", pages * Double(sysconf(Int32(_SC_PAGESIZE))))
        }
        if let files = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
            text += gauge("process_open_fds", Double(files.count))
        }
        return text
    }
}
