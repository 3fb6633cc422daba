/// How many requests work and wait, and for how long.
struct AdmissionLimits: Sendable, Equatable {
    /// How many may work at once.
    var places = 64
    /// How long one may wait while the queue stands.
    var target = Duration.milliseconds(750)
    /// For how long everyone must have waited that long before it counts as standing.
    var interval = Duration.milliseconds(500)
    /// How long one waits at most, whatever the queue does.
    var longest = Duration.milliseconds(1500)
    /// How many may wait: each holds memory.
    var maxWaiting = 1024
}

/// Who may work now, who waits, and who is refused: so many at once, the others in a queue that is bounded by how long one
/// waits in it, not by how many there are.
///
/// A burst may wait. A queue that stands, because more comes than can be done, only makes everyone wait and does no more
/// work: once nobody has waited less than `target` for a whole `interval`, newcomers are refused at the door, beyond as many
/// as were let in during the last `target`. Keys take turns, and share the queue evenly: whoever sends too much fills only
/// their own part of it.
///
/// Sources: Nichols and Jacobson, "Controlling Queue Delay", 2012 (the least wait of an interval tells a standing queue from
/// a burst); RFC 8290 (turns of keys, and the longest queue gives way).
///
/// It has no clock and wakes nobody: time is passed in, and what is to be woken is handed out.
struct AdmissionQueue<Waiter: Sendable>: Sendable {
    typealias Instant = ContinuousClock.Instant

    enum Arrival: Sendable {
        case enters
        /// They wait, in the place of another, perhaps, who is refused.
        case waits(pushedOut: Waiter?)
        case refused
    }

    /// What became of those who waited: who may work now, and who was refused.
    struct Wakeups: Sendable {
        var admitted: [(waiter: Waiter, waited: Duration)] = []
        var refused: [Waiter] = []
    }

    private struct Entry: Sendable {
        let waiter: Waiter
        let since: Instant
    }

    /// Those of one key, the first the longest.
    private struct Line: Sendable {
        private var entries: [Entry] = []
        private var served = 0

        var count: Int { entries.count - served }
        var first: Entry? { served < entries.count ? entries[served] : nil }

        mutating func append(_ entry: Entry) { entries.append(entry) }

        mutating func removeFirst() {
            served += 1
            guard served > 32, served * 2 > entries.count else { return }
            entries.removeFirst(served)
            served = 0
        }

        mutating func removeLast() -> Waiter? { count > 0 ? entries.removeLast().waiter : nil }
    }

    let limits: AdmissionLimits
    private(set) var working = 0
    private(set) var waiting = 0
    /// Whether more comes than can be done.
    private(set) var isStanding = false

    private var lines: [String: Line] = [:]
    /// The keys that wait, in the order of their turns.
    private var turns: [String] = []
    private var next = 0

    private var intervalEnd: Instant?
    /// The least wait of those who were let in during this interval, and how many they were.
    private var leastWait: Duration?
    private var letIn = 0
    /// How many were let in during the interval before.
    private var pace = 0

    init(limits: AdmissionLimits = AdmissionLimits()) { self.limits = limits }

    // MARK: Coming and going

    /// Whether one of this key would be refused now: for those who have not sent all of their request yet.
    mutating func refuses(_ key: String, now: Instant) -> Bool {
        guard waiting > 0 else { return false }
        look(now)
        return isStanding && (lines[key]?.count ?? 0) >= share(of: key)
    }

    /// Takes a place, if there is one and nobody waits for it.
    mutating func enters(now: Instant) -> Bool {
        guard working < limits.places, waiting == 0 else { return false }
        working += 1
        if intervalEnd != nil { count(.zero, now) }
        return true
    }

    /// One comes. `waiter` is kept when they have to wait.
    mutating func arrive(_ key: String, now: Instant, waiter: Waiter) -> Arrival {
        guard !enters(now: now) else { return .enters }
        guard !refuses(key, now: now) else { return .refused }
        let pushedOut = waiting >= limits.maxWaiting ? makeRoom(for: key) : nil
        guard waiting < limits.maxWaiting else { return .refused }
        if intervalEnd == nil { begin(now) }
        if lines[key] == nil { turns.append(key) }
        lines[key, default: Line()].append(Entry(waiter: waiter, since: now))
        waiting += 1
        return .waits(pushedOut: pushedOut)
    }

    /// One has done their work; the next may begin.
    mutating func leave(now: Instant) -> Wakeups {
        working -= 1
        var wakeups = Wakeups()
        guard waiting > 0 else { return wakeups }
        look(now)
        while working < limits.places, let (entry, waited) = takeNext(now) {
            guard waited <= limits.longest else {
                isStanding = true
                wakeups.refused.append(entry.waiter)
                continue
            }
            working += 1
            count(waited, now)
            wakeups.admitted.append((entry.waiter, waited))
        }
        return wakeups
    }

    /// Those who have waited too long, although nobody leaves.
    mutating func expire(now: Instant) -> [Waiter] {
        guard waiting > 0 else { return [] }
        look(now)
        var expired: [Waiter] = []
        for key in turns {
            while let first = lines[key]?.first, now - first.since > limits.longest {
                lines[key]?.removeFirst()
                waiting -= 1
                expired.append(first.waiter)
            }
        }
        if !expired.isEmpty {
            isStanding = true
            forgetEmptyLines()
        }
        return expired
    }

    // MARK: Turns

    private mutating func takeNext(_ now: Instant) -> (Entry, waited: Duration)? {
        guard !turns.isEmpty else { return nil }
        if next >= turns.count { next = 0 }
        let key = turns[next]
        guard let entry = lines[key]?.first else { return nil }
        lines[key]?.removeFirst()
        waiting -= 1
        if lines[key]?.count == 0 {
            lines[key] = nil
            turns.remove(at: next)
        } else {
            next += 1
        }
        return (entry, now - entry.since)
    }

    private mutating func forgetEmptyLines() {
        lines = lines.filter { $0.value.count > 0 }
        turns.removeAll { lines[$0] == nil }
        next = 0
    }

    /// How many of a key may wait while the queue stands: their part of what is done within `target`.
    private func share(of key: String) -> Int {
        let all = Double(pace) * (limits.target / limits.interval)
        let keys = turns.count + (lines[key] == nil ? 1 : 0)
        return max(1, Int(all) / max(1, keys))
    }

    /// Pushes out the last of the longest line; nil when that is the key's own, or no longer than it.
    private mutating func makeRoom(for key: String) -> Waiter? {
        guard let longest = lines.max(by: { $0.value.count < $1.value.count }), longest.key != key,
            longest.value.count > (lines[key]?.count ?? 0) + 1
        else { return nil }
        waiting -= 1
        return lines[longest.key]?.removeLast()
    }

    // MARK: Standing or not

    private mutating func begin(_ now: Instant) {
        intervalEnd = now + limits.interval
        (leastWait, letIn) = (nil, 0)
    }

    private mutating func count(_ waited: Duration, _ now: Instant) {
        look(now)
        letIn += 1
        leastWait = min(leastWait ?? waited, waited)
    }

    /// Judges the interval when it is over.
    private mutating func look(_ now: Instant) {
        guard let end = intervalEnd, now >= end else { return }
        let longest = turns.compactMap { lines[$0]?.first?.since }.min().map { now - $0 } ?? .zero
        // Where nobody was let in at all, those who wait say how it stands.
        let least = leastWait ?? longest
        if least > limits.target { isStanding = true }
        let wasIdle = waiting == 0 && now - end >= limits.interval
        if least < limits.target / 2 || wasIdle { isStanding = false }
        let intervals = max(1, (now - end + limits.interval) / limits.interval)
        pace = Int((Double(letIn) / intervals).rounded(.up))
        if waiting > 0 || isStanding { begin(now) } else { intervalEnd = nil }
    }
}
