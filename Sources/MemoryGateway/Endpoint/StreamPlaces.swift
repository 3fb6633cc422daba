import MemoryCore
import Synchronization

/// How many event streams each key holds open, so that one key cannot take every place.
final class StreamPlaces: Sendable {
    /// A stream's place; it is given back when nobody holds it any more.
    final class Place: Sendable {
        private let places: StreamPlaces
        private let key: String

        fileprivate init(_ places: StreamPlaces, _ key: String) { (self.places, self.key) = (places, key) }

        deinit { places.leave(key) }
    }

    /// An eighth of the places that there are.
    static let perKey = 32

    private let taken = Mutex<[String: Int]>([:])

    /// A place for a key; without keys there is nobody to tell from another, and no bound but that of all.
    ///
    /// - Throws: ``MemoryError`` with `rate_limited` when the key has as many as it may.
    func take(_ key: String?) throws(MemoryError) -> Place? {
        guard let key else { return nil }
        let isFull = taken.withLock { taken in
            guard taken[key, default: 0] < Self.perKey else { return true }
            taken[key, default: 0] += 1
            return false
        }
        guard isFull else { return Place(self, key) }
        var error = MemoryError(.rateLimited, "This API key holds \(Self.perKey) event streams open already")
        error.retryAfter = .seconds(5)
        throw error
    }

    private func leave(_ key: String) {
        taken.withLock { taken in
            let left = taken[key, default: 1] - 1
            taken[key] = left > 0 ? left : nil
        }
    }
}
