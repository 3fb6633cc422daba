/// What waits for a connection, by lane, and how many connections each lane may have.
///
/// Health checks go first. Requests leave one connection to the work in the background, which has a quarter of them at
/// most: neither ever waits for the other.
struct PostgresJobs: Sendable {
    /// A call that waits for a connection.
    struct Job: Sendable {
        /// Whether nobody waits for it any more.
        let isOver: @Sendable () -> Bool
        let run: @Sendable (PostgresDatabase.Worker) -> Void
    }

    private struct Queue {
        var jobs: [Job] = []
        var head = 0
        var running = 0
        let limit: Int

        var count: Int { jobs.count - head }

        mutating func take() -> Job? {
            guard running < limit, head < jobs.count else { return nil }
            let job = jobs[head]
            head += 1
            if head == jobs.count || head > 512 {
                jobs.removeFirst(head)
                head = 0
            }
            running += 1
            return job
        }

        /// Drops those that nobody waits for any more.
        mutating func dropOver() {
            jobs = jobs[head...].filter { !$0.isOver() }
            head = 0
        }
    }

    private static let order: [Lane] = [.health, .request, .background]
    /// By the number of the lane.
    private var queues: [Queue]

    init(connections: Int) {
        queues = Lane.allCases.map { lane in
            switch lane {
            case .request: Queue(limit: connections < 4 ? connections : connections - 1)
            case .background: Queue(limit: max(1, connections / 4))
            case .health: Queue(limit: connections)
            }
        }
    }

    /// Adds a job, unless so many wait in its lane already.
    mutating func add(_ job: Job, _ lane: Lane, limit: Int) -> Bool {
        if queues[lane.rawValue].count >= limit { queues[lane.rawValue].dropOver() }
        guard queues[lane.rawValue].count < limit else { return false }
        queues[lane.rawValue].jobs.append(job)
        return true
    }

    /// How many jobs may start now.
    var startable: Int { queues.reduce(0) { $0 + min($1.count, $1.limit - $1.running) } }

    /// The job whose turn it is, which counts as running until ``ended(_:)``.
    mutating func take() -> (Job, Lane)? {
        for lane in Self.order {
            if let job = queues[lane.rawValue].take() { return (job, lane) }
        }
        return nil
    }

    mutating func ended(_ lane: Lane) { queues[lane.rawValue].running -= 1 }
}
