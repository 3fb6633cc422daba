/// What kind of record a memory is: each kind has its own collection of vectors.
public enum RecordKind: Sendable, Equatable {
    /// What was remembered.
    case memory
    /// What an extractor has distilled, under the extractor's own id.
    case agentMemory(id: String)
    /// A reflection on a day or a week.
    case reflection(Reflection)

    /// A reflection's own data.
    public struct Reflection: Sendable, Equatable {
        /// What is reflected upon.
        public enum Mode: String, Sendable, CaseIterable {
            /// A day.
            case daily
            /// A week.
            case weekly
        }

        /// What is reflected upon.
        public var mode: Mode
        /// The day, or the week's last day: `2026-05-07`.
        public var date: String
        /// Numbers of the day or week.
        public var metrics: JSONObject

        /// A reflection's own data.
        public init(mode: Mode, date: String, metrics: JSONObject = JSONObject()) {
            self.mode = mode
            self.date = date
            self.metrics = metrics
        }
    }

    /// Where its vectors lie.
    var source: RecallRequest.Source {
        switch self {
        case .memory: .events
        case .agentMemory: .agentMemories
        case .reflection: .dailyThreads
        }
    }

    /// What it adds to the `payload` column, and to what answers show under the same names (an agent memory's own id as
    /// `agent_memory_id`, because `memory_id` is the record's).
    var members: JSONObject {
        switch self {
        case .memory: JSONObject()
        case .agentMemory(let id): ["memory_id": .string(id)]
        case .reflection(let reflection):
            [
                "mode": .string(reflection.mode.rawValue), "reflection_date": .string(reflection.date),
                "metrics": .object(reflection.metrics),
            ]
        }
    }

    /// The kind of a source, with the members that ``members`` gave; nil when they do not fit.
    init?(source: RecallRequest.Source, members: JSONObject, agentMemoryKey: String = "memory_id") {
        switch source {
        case .events: self = .memory
        case .agentMemories:
            guard let id = members[agentMemoryKey]?.string else { return nil }
            self = .agentMemory(id: id)
        case .dailyThreads:
            guard let mode = members["mode"]?.string.flatMap(Reflection.Mode.init),
                let date = members["reflection_date"]?.string
            else { return nil }
            self = .reflection(
                Reflection(mode: mode, date: date, metrics: members["metrics"]?.object ?? JSONObject()))
        }
    }
}
