/// A plan to make.
public struct PlanDraft: Sendable {
    /// Its title, at most 500 characters.
    public var title: String
    /// What it is for, in the person's own words, at most 64 KiB.
    public var intent: String
    /// The standard operating procedure: an object or an array, at most 256 KiB of JSON.
    public var sop: JSON
    /// Whose plan it is.
    public var owner: Owner
    /// Anything else, at most 16 KiB of JSON.
    public var metadata = JSONObject()

    /// A plan of someone, or of nobody in particular.
    public init(title: String, intent: String, sop: JSON, owner: Owner) {
        self.title = title
        self.intent = intent
        self.sop = sop
        self.owner = owner
    }

    func validate() throws(MemoryError) {
        try PlanPatch(title: title, intent: intent, sop: sop, metadata: metadata).validate()
        try owner.validate()
    }
}

/// What to change of a plan; what is nil stays as it is.
public struct PlanPatch: Sendable {
    /// The new title.
    public var title: String?
    /// The new intent.
    public var intent: String?
    /// The new procedure.
    public var sop: JSON?
    /// The new metadata, instead of all there was.
    public var metadata: JSONObject?
    /// The new status.
    public var status: Plan.Status?

    /// Changes what is given.
    public init(
        title: String? = nil, intent: String? = nil, sop: JSON? = nil, metadata: JSONObject? = nil,
        status: Plan.Status? = nil
    ) {
        self.title = title
        self.intent = intent
        self.sop = sop
        self.metadata = metadata
        self.status = status
    }

    func validate() throws(MemoryError) {
        if let title { try Limits.check(title, "plan_title", maxCharacters: 500) }
        if let intent { try Limits.check(intent, "intent", maxBytes: Limits.contentBytes) }
        if let sop {
            guard sop.object != nil || sop.array != nil else {
                throw .invalid("sop must be an object or an array", field: "sop")
            }
            try Limits.check(json: sop, "sop", maxBytes: 256 << 10)
        }
        if let metadata { try Limits.check(metadata: metadata) }
    }
}

/// A plan.
public struct Plan: Sendable {
    /// Where a plan stands.
    public enum Status: String, Sendable, CaseIterable {
        /// It is being written.
        case draft
        /// It has a place in the calendar.
        case scheduled
        /// It is being carried out.
        case active
        /// It is done.
        case completed

        /// Whether a plan may go from here to there; staying is no move.
        func canMove(to next: Status) -> Bool {
            switch (self, next) {
            case (.draft, .scheduled), (.scheduled, .active), (.active, .completed), (.scheduled, .draft): true
            default: self == next
            }
        }
    }

    /// Its id.
    public let id: Int64
    /// Its title.
    public let title: String
    /// What it is for.
    public let intent: String
    /// The standard operating procedure.
    public let sop: JSON
    /// Whose it is.
    public let clientID: Int?
    /// Where it stands.
    public let status: Status
    /// Anything else.
    public let metadata: JSONObject
    /// When it was made.
    public let createdAt: Timestamp
    /// When it was last changed.
    public let updatedAt: Timestamp
}

/// A plan's steps in the calendar.
public struct Schedule: Sendable {
    /// One step's time.
    public struct Block: Sendable {
        /// When it begins.
        public var start: Timestamp
        /// When it ends.
        public var end: Timestamp
        /// What is done, as in `coda:task-123`.
        public var taskID: String
        /// The calendar's own id of it.
        public var calendarEventID: String?

        /// A step's time.
        public init(start: Timestamp, end: Timestamp, taskID: String, calendarEventID: String? = nil) {
            self.start = start
            self.end = end
            self.taskID = taskID
            self.calendarEventID = calendarEventID
        }
    }

    /// Its id.
    public let id: Int64
    /// The plan.
    public let planID: Int64
    /// The blocks, as they were given.
    public let blocks: JSON
    /// Whose plan it is.
    public let clientID: Int?
    /// `scheduled`, unless another program says otherwise.
    public let status: String
    /// When it was made.
    public let createdAt: Timestamp
}
