/// Runs a batch call; when one input spoils the batch, halves it until that input stands alone, so that a poisoned input
/// fails by itself and the others succeed. `isPoison` tells whether an error is the fault of some input, rather than of the
/// store; `work` gives one result for each input.
func isolatingFailures<Input: Sendable, Output: Sendable>(
    _ inputs: [Input], isPoison: @Sendable (MemoryError) -> Bool = { !$0.isRetriable },
    _ work: @Sendable ([Input]) async throws(MemoryError) -> [Result<Output, MemoryError>]
) async -> [Result<Output, MemoryError>] {
    do throws(MemoryError) {
        return try await work(inputs)
    } catch {
        guard inputs.count > 1, isPoison(error) else { return inputs.map { _ in .failure(error) } }
        let middle = inputs.count / 2
        return await isolatingFailures(Array(inputs[..<middle]), isPoison: isPoison, work)
            + isolatingFailures(Array(inputs[middle...]), isPoison: isPoison, work)
    }
}
