/// Runs the body for every item at once, and answers the results in the items' order. One item runs in the caller's task.
func concurrently<Item: Sendable, Value: Sendable>(
    _ items: [Item], _ body: @escaping @Sendable (Item) async -> Value
) async -> [Value] {
    if let only = items.first, items.count == 1 { return [await body(only)] }
    return await withTaskGroup(of: (Int, Value).self) { group in
        for (place, item) in items.enumerated() { group.addTask { (place, await body(item)) } }
        let results = await group.reduce(into: [(Int, Value)]()) { $0.append($1) }
        return results.sorted { $0.0 < $1.0 }.map(\.1)
    }
}
