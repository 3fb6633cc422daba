/// One time that work was done: what really happened, beside what was planned.
public struct ExecutionRun: Sendable {
    /// What was done.
    public enum Kind: String, Sendable, CaseIterable {
        /// A process was carried out.
        case process = "Process"
        /// A person was met.
        case touchpoint = "Touchpoint"
    }

    /// The caller's own id, at most 100 characters, each once.
    public var id: String
    /// What was done.
    public var kind: Kind
    /// The workflow, as in `coda:workflow-1`; this and the ids below have at most 255 characters.
    public var workflowID: String?
    /// The process template.
    public var processTemplateID: String?
    /// The task.
    public var taskID: String?
    /// The project.
    public var projectID: String?
    /// The engagement.
    public var engagementID: String?
    /// Who did it.
    public var executedByPersonID: String?
    /// When it began.
    public var startedAt: Timestamp?
    /// When it ended.
    public var endedAt: Timestamp?
    /// How long it took, 0...999.99 hours.
    public var actualHours: Double?
    /// What came of it, at most 64 KiB.
    public var outcomeNotes: String?
    /// Anything else, at most 16 KiB of JSON; `estimated_hours` is a number where it is there.
    public var metadata = JSONObject()
    /// When it was stored; nil before.
    public internal(set) var createdAt: Timestamp?
    /// Its row.
    var rowID: Int64 = 0

    /// A run that says nothing but that it was.
    public init(id: String, kind: Kind) {
        self.id = id
        self.kind = kind
    }

    /// How long it was planned to take.
    public var estimatedHours: Double? { metadata["estimated_hours"]?.double }

    func validate() throws(MemoryError) {
        try Limits.check(id, "run_id", maxCharacters: 100)
        for (field, id) in [
            ("workflow_id", workflowID), ("process_template_id", processTemplateID), ("task_id", taskID),
            ("project_id", projectID), ("engagement_id", engagementID), ("executed_by_person_id", executedByPersonID),
        ] {
            if let id { try Limits.check(id, field, maxCharacters: 255) }
        }
        if let actualHours, !(0...999.99).contains(actualHours) {
            throw .invalid("actual_hours must be between 0 and 999.99", field: "actual_hours")
        }
        if let startedAt, let endedAt, endedAt < startedAt {
            throw MemoryError(.unprocessable, "A run must not end before its start", field: "ended_at")
        }
        if let outcomeNotes { try Limits.check(outcomeNotes, "outcome_notes", maxBytes: Limits.contentBytes) }
        try Limits.check(metadata: metadata)
        if let estimated = metadata["estimated_hours"], estimated.double.map({ $0 >= 0 }) != true {
            throw .invalid("metadata.estimated_hours must be a number from 0", field: "metadata")
        }
    }

    /// The run with the fields that an object gives; what it does not name stays as it is, `null` clears.
    ///
    /// - Throws: ``MemoryError`` with `invalid_request`, naming the field.
    package mutating func apply(_ object: JSONObject) throws(MemoryError) {
        let fields = FieldReader(object)
        func has(_ name: String) -> Bool { object[name] != nil }
        if let kind = try fields.choice("run_type", Kind.self) { self.kind = kind }
        if has("workflow_id") { workflowID = try fields.string("workflow_id") }
        if has("process_template_id") { processTemplateID = try fields.string("process_template_id") }
        if has("task_id") { taskID = try fields.string("task_id") }
        if has("project_id") { projectID = try fields.string("project_id") }
        if has("engagement_id") { engagementID = try fields.string("engagement_id") }
        if has("executed_by_person_id") { executedByPersonID = try fields.string("executed_by_person_id") }
        if has("started_at") { startedAt = try fields.timestamp("started_at") }
        if has("ended_at") { endedAt = try fields.timestamp("ended_at") }
        if has("actual_hours") { actualHours = try fields.double("actual_hours") }
        if has("outcome_notes") { outcomeNotes = try fields.string("outcome_notes") }
        if has("metadata") { metadata = try fields.object("metadata") ?? JSONObject() }
    }
}

/// Which runs are wanted. Everything that is set must hold.
public struct RunFilter: Sendable {
    /// The task.
    public var taskID: String?
    /// The project.
    public var projectID: String?
    /// The process template.
    public var processTemplateID: String?
    /// The workflow.
    public var workflowID: String?
    /// What was done.
    public var kind: ExecutionRun.Kind?
    /// Begun at this moment or later; a run that does not say when it began counts from when it was stored.
    public var since: Timestamp?

    /// All runs.
    public init() {}
}

/// What runs of the same kind tell.
public struct RunStatistics: Sendable {
    /// How many there are.
    public let count: Int
    /// Of those that say how long they took; nil when none does.
    public let averageHours: Double?
    /// Half took less.
    public let medianHours: Double?
    /// Nine of ten took less.
    public let p90Hours: Double?
    /// The average estimate of those that have one.
    public let estimatedHours: Double?
    /// By how much the runs with both numbers exceed their estimates: 0.31 is 31 % longer.
    public let variance: Double?
    /// Whether the variance is beyond ±0.30 over three or more runs.
    public let isDrifting: Bool
    /// How many say in their notes that they were blocked or delayed.
    public let blocked: Int

    /// What a run says of itself.
    struct Sample {
        var hours: Double?
        var estimate: Double?
        var notes: String?
    }

    private static let driftRuns = 3

    /// Hours as they were and as they were planned, summed in millionths of an hour: 2.6 hours for 2 are 30 % more and no
    /// thousandth beyond, which no sum of floating-point numbers can tell.
    private struct Totals {
        private let hours: Double
        private let estimates: Double
        /// Nil when some number has no exact millionths; then the sums above are all there is.
        private let exact: (hours: Int64, estimates: Int64)?

        init(hours: [Double], estimates: [Double]) {
            self.hours = hours.reduce(0, +)
            self.estimates = estimates.reduce(0, +)
            if let hours = Self.millionths(hours), let estimates = Self.millionths(estimates) {
                exact = (hours, estimates)
            } else {
                exact = nil
            }
        }

        private static func millionths(_ values: [Double]) -> Int64? {
            var sum: Int64 = 0
            for value in values {
                let scaled = (value * 1_000_000).rounded()
                // Up to here whole numbers are exact, and a hundred thousand of them have a sum.
                guard abs(scaled) < 1e13, scaled / 1_000_000 == value else { return nil }
                sum += Int64(scaled)
            }
            return abs(sum) < 1 << 58 ? sum : nil
        }

        var variance: Double? { estimates > 0 ? (hours - estimates) / estimates : nil }

        /// Whether the hours differ from the estimates by more than 30 %.
        var isBeyondThreshold: Bool {
            guard estimates > 0 else { return false }
            guard let exact else { return abs(hours - estimates) > 0.30 * estimates }
            return abs(exact.hours - exact.estimates) * 10 > exact.estimates * 3
        }
    }

    init(_ samples: [Sample]) {
        let hours = samples.compactMap(\.hours).sorted()
        let estimates = samples.compactMap(\.estimate)
        let both = samples.filter { $0.hours != nil && $0.estimate != nil }
        let total = Totals(hours: both.compactMap(\.hours), estimates: both.compactMap(\.estimate))
        count = samples.count
        averageHours = Self.mean(hours)
        medianHours = Self.percentile(0.5, hours)
        p90Hours = Self.percentile(0.9, hours)
        estimatedHours = Self.mean(estimates)
        variance = total.variance.map(Self.rounded)
        isDrifting = both.count >= Self.driftRuns && total.isBeyondThreshold
        blocked = samples.count { sample in
            Tokenizer.words(sample.notes ?? "").contains { $0 == "blocked" || $0 == "delayed" }
        }
    }

    private static func mean(_ values: [Double]) -> Double? {
        values.isEmpty ? nil : rounded(values.reduce(0, +) / Double(values.count))
    }

    /// With linear interpolation between neighbours, as PostgreSQL's `percentile_cont`.
    private static func percentile(_ share: Double, _ sorted: [Double]) -> Double? {
        guard let last = sorted.indices.last else { return nil }
        let place = share * Double(last)
        let below = Int(place)
        let above = min(below + 1, last)
        return rounded(sorted[below] + (sorted[above] - sorted[below]) * (place - Double(below)))
    }

    private static func rounded(_ value: Double) -> Double { (value * 10_000).rounded() / 10_000 }
}

/// A project that used a blueprint.
public struct SimilarProject: Sendable {
    /// The project.
    public let id: String
    /// How many of its runs came from the blueprint.
    public let runs: Int
    /// How long they took on average.
    public let averageHours: Double?
    /// How long they took together.
    public let totalHours: Double
    /// When the last of them began.
    public let lastRunAt: Timestamp?
}
