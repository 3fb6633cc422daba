import CoreMetrics
import MemoryCore
import Synchronization

/// How much memory the bodies of all requests may take together: what has come of them, and what was built of it.
final class BodyBudget: Sendable {
    /// Up to this size a body is small. Large ones leave it a quarter of the budget: they cannot keep everyone out.
    static let smallBytes = 1 << 16

    private let limit: Int
    private let used = Atomic<Int>(0)
    private let refusals = Counter(label: "memory_gateway_overloaded_total", dimensions: [("reason", "bodies")])

    init(bytes: Int) { limit = bytes }

    fileprivate func take(_ bytes: Int, isLarge: Bool) -> Bool {
        let bound = isLarge ? limit / 4 * 3 : limit
        guard used.add(bytes, ordering: .relaxed).newValue > bound else { return true }
        giveBack(bytes)
        refusals.increment()
        return false
    }

    fileprivate func giveBack(_ bytes: Int) { used.subtract(bytes, ordering: .relaxed) }

    /// How many bytes are taken.
    var usedBytes: Int { used.load(ordering: .relaxed) }
}

/// What one request's body takes of the budget, until it is let go.
final class BodyRoom: Sendable {
    private let budget: BodyBudget
    private let isLarge: Bool
    private let held = Atomic<Int>(0)

    init(_ budget: BodyBudget, isLarge: Bool) {
        self.budget = budget
        self.isLarge = isLarge
    }

    deinit { budget.giveBack(held.load(ordering: .relaxed)) }

    /// Takes room for more; false when there is none.
    func take(_ bytes: Int) -> Bool {
        guard budget.take(bytes, isLarge: isLarge) else { return false }
        held.add(bytes, ordering: .relaxed)
        return true
    }
}
