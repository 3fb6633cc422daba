/// The vectors of places that are held in memory, and what was written to a place while it is read from the file.
///
/// A block is read from one state of the file. What is written meanwhile is noted from before that state on, and applied to
/// the block before it is kept: so it is whole, however many others write.
struct VectorBlocks {
    /// Whose vectors, of which collection.
    struct Place: Hashable {
        let clientID: Int
        let collection: VectorCollection
    }

    /// A vector that was written, or (`dense` is nil) removed.
    struct Change {
        let id: Int64
        let dense: [UInt8]?
    }

    fileprivate struct Reading {
        let place: Place
        var changes: [Change] = []
        var isBeyondMeasure = false
    }

    /// So many changes are noted for a block that is being read, some 12 MiB; with more of them it is not kept.
    fileprivate static let maxChanges = 4096

    private var blocks: LRUCache<Place, CompactVectors>
    private var readings: [Int: Reading] = [:]
    private var nextReading = 0

    init(capacity: Int) { blocks = LRUCache(capacity: capacity) }

    /// The block of a place, if it is held.
    mutating func block(of place: Place) -> CompactVectors? { blocks.value(for: place) }

    /// Begins to note what is written to a place, before its block is read; nil when the block is held.
    mutating func beginReading(_ place: Place) -> Int? {
        guard blocks.value(for: place) == nil else { return nil }
        nextReading += 1
        readings[nextReading] = Reading(place: place)
        return nextReading
    }

    /// Ends what ``beginReading(_:)`` began, and keeps the block that was read; nil when it was not, or not whole.
    mutating func endReading(_ number: Int, _ block: CompactVectors?) {
        guard let reading = readings.removeValue(forKey: number), var block, !reading.isBeyondMeasure else { return }
        for change in reading.changes { block.apply(change) }
        blocks.insert(block, for: reading.place, cost: block.bytes)
    }

    /// Takes in what was written to a place.
    mutating func apply(_ changes: [Change], to place: Place) {
        for number in readings.keys { readings[number]?.note(changes, place) }
        // It is taken out in between, so that it is not copied.
        guard var block = blocks.value(for: place) else { return }
        blocks.removeValue(for: place)
        for change in changes { block.apply(change) }
        blocks.insert(block, for: place, cost: block.bytes)
    }
}

extension VectorBlocks.Reading {
    fileprivate mutating func note(_ new: [VectorBlocks.Change], _ place: VectorBlocks.Place) {
        guard place == self.place, !isBeyondMeasure else { return }
        if changes.count + new.count > VectorBlocks.maxChanges {
            isBeyondMeasure = true
            changes = []
        } else {
            changes += new
        }
    }
}

extension CompactVectors {
    fileprivate mutating func apply(_ change: VectorBlocks.Change) {
        if let dense = change.dense { set(change.id, dense) } else { remove(change.id) }
    }
}
