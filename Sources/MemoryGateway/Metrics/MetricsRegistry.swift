import CoreMetrics
import Synchronization

/// Keeps what swift-metrics records, and says it in Prometheus' text format.
///
/// Source of the format: Prometheus, "Exposition formats", version 0.0.4.
final class MetricsRegistry: MetricsFactory {
    /// The one of this process; swift-metrics takes one and keeps it.
    static let shared = MetricsRegistry()

    /// One metric with its labels.
    private struct Key: Hashable {
        let name: String
        let labels: String

        init(_ name: String, _ dimensions: [(String, String)]) {
            self.name = name
            labels = dimensions.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }.joined(separator: ",")
        }

        private static func escaped(_ value: String) -> String {
            value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
        }
    }

    private struct State {
        var counters: [Key: Count] = [:]
        var gauges: [Key: Level] = [:]
        var histograms: [Key: Histogram] = [:]
    }

    private let state = Mutex(State())

    // MARK: MetricsFactory

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        let key = Key(label, dimensions)
        return state.withLock { state in
            if let known = state.counters[key] { return known }
            let made = Count()
            state.counters[key] = made
            return made
        }
    }

    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        guard !aggregate else { return histogram(label, dimensions) }
        let key = Key(label, dimensions)
        return state.withLock { state in
            if let known = state.gauges[key] { return known }
            let made = Level()
            state.gauges[key] = made
            return made
        }
    }

    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler { histogram(label, dimensions) }

    private func histogram(_ label: String, _ dimensions: [(String, String)]) -> Histogram {
        let key = Key(label, dimensions)
        return state.withLock { state in
            if let known = state.histograms[key] { return known }
            let made = Histogram()
            state.histograms[key] = made
            return made
        }
    }

    // A metric stays once it was there: Prometheus wants counters that do not begin anew.
    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}

    // MARK: Reading

    /// The sum of a counter over all its labels.
    func total(_ name: String) -> Int64 {
        state.withLock { state in
            state.counters.filter { $0.key.name == name }.reduce(0) { $0 + $1.value.value.load(ordering: .relaxed) }
        }
    }

    /// Everything, in Prometheus' text format.
    func text() -> String {
        let state = state.withLock { $0 }
        var text = ""
        func write<Value>(_ metrics: [Key: Value], _ type: String, _ lines: (Key, Value) -> String) {
            for (name, entries) in Dictionary(grouping: metrics, by: \.key.name).sorted(by: { $0.key < $1.key }) {
                text += "# TYPE \(name) \(type)\n"
                for (key, value) in entries.sorted(by: { $0.key.labels < $1.key.labels }) { text += lines(key, value) }
            }
        }
        write(state.counters, "counter") { key, counter in
            Self.line(key.name, key.labels, "\(counter.value.load(ordering: .relaxed))")
        }
        write(state.gauges, "gauge") { key, gauge in Self.line(key.name, key.labels, "\(gauge.value)") }
        write(state.histograms, "histogram") { key, histogram in histogram.lines(key.name, key.labels) }
        return text
    }

    static func line(_ name: String, _ labels: String, _ value: String) -> String {
        labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(labels)} \(value)\n"
    }
}

/// A number that grows.
private final class Count: CounterHandler {
    let value = Atomic<Int64>(0)

    func increment(by amount: Int64) { value.wrappingAdd(amount, ordering: .relaxed) }
    func reset() { value.store(0, ordering: .relaxed) }
}

/// A number that goes up and down.
private final class Level: RecorderHandler {
    private let last = Mutex(0.0)

    var value: Double { last.withLock { $0 } }

    func record(_ value: Int64) { last.withLock { $0 = Double(value) } }
    func record(_ value: Double) { last.withLock { $0 = value } }
}

/// Durations in seconds, counted by how long they were.
private final class Histogram: TimerHandler, RecorderHandler {
    private static let bounds = [
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    ]

    private let state = Mutex((counts: [Int](repeating: 0, count: bounds.count), total: 0, sum: 0.0))

    func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1e9) }
    func record(_ value: Int64) { record(Double(value)) }

    func record(_ value: Double) {
        let place = Self.bounds.firstIndex { value <= $0 }
        state.withLock { state in
            if let place { state.counts[place] += 1 }
            state.total += 1
            state.sum += value
        }
    }

    func lines(_ name: String, _ labels: String) -> String {
        let (counts, total, sum) = state.withLock { $0 }
        let prefix = labels.isEmpty ? "" : labels + ","
        var text = ""
        var below = 0
        for (bound, count) in zip(Self.bounds, counts) {
            below += count
            text += MetricsRegistry.line("\(name)_bucket", "\(prefix)le=\"\(bound)\"", "\(below)")
        }
        text += MetricsRegistry.line("\(name)_bucket", "\(prefix)le=\"+Inf\"", "\(total)")
        text += MetricsRegistry.line("\(name)_sum", labels, "\(sum)")
        return text + MetricsRegistry.line("\(name)_count", labels, "\(total)")
    }
}
