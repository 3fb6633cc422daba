import Testing

@testable import MemoryCore

@Suite("Drift")
struct DriftTests {
    private func isDrifting(_ pairs: [(hours: Double, estimate: Double)]) -> Bool {
        RunStatistics(pairs.map { RunStatistics.Sample(hours: $0.hours, estimate: $0.estimate, notes: nil) }).isDrifting
    }

    @Test(
        "Exactly 30 % is no drift",
        arguments: [(2.6, 2), (1.3, 1), (0.65, 0.5), (1.4, 2), (0.7, 1), (5.2, 4)] as [(Double, Double)])
    func exactly(_ hours: Double, _ estimate: Double) {
        #expect(!isDrifting(Array(repeating: (hours, estimate), count: 3)))
        #expect(!isDrifting(Array(repeating: (hours, estimate), count: 7)))
        let beyond = hours > estimate ? hours + 0.01 : hours - 0.01
        #expect(isDrifting(Array(repeating: (beyond, estimate), count: 3)))
    }

    @Test("Every estimate in hundredths: beyond 30 % drifts, 30 % does not, whatever the runs are made of")
    func bruteForce() {
        for estimate in 1...2000 {
            // In thousandths of an hour, 30 % either way are whole numbers.
            for (factor, step) in [(13, 1), (7, -1)] {
                let hours = estimate * factor
                for count in [3, 4] {
                    func runs(_ last: Int) -> [(Double, Double)] {
                        var runs = Array(repeating: (Double(hours) / 1000, Double(estimate) / 100), count: count)
                        runs[0].0 = Double(hours + 4) / 1000
                        runs[1].0 = Double(hours - 4 + last) / 1000
                        return runs
                    }
                    #expect(!isDrifting(runs(0)), "\(estimate) \(factor)")
                    #expect(!isDrifting(runs(-step)), "\(estimate) \(factor)")
                    #expect(isDrifting(runs(step)), "\(estimate) \(factor)")
                }
            }
        }
    }

    @Test("Numbers that no fixed point holds are compared as they are")
    func extreme() {
        #expect(!isDrifting(Array(repeating: (2, 1e300), count: 2)))
        #expect(isDrifting(Array(repeating: (2, 1e300), count: 3)))
        #expect(!isDrifting(Array(repeating: (999.99, 1e-300), count: 2)))
        #expect(isDrifting(Array(repeating: (999.99, 1e-300), count: 3)))
        #expect(!isDrifting(Array(repeating: (0, 0), count: 3)))
    }
}
