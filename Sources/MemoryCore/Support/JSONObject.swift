/// The members of a JSON object, in the order they were given. A member is found in the same time among ten thousand as among
/// ten: whoever sends an object does not decide what looking into it costs.
public struct JSONObject: Sendable {
    /// One key with its value.
    public struct Member: Sendable {
        /// The key.
        public var key: String
        /// Its value.
        public var value: JSON
    }

    /// All members, in order.
    public private(set) var members: [Member]
    /// Where each key stands, once there are too many to look through: comparing a few is faster than hashing one.
    private var places: [KeyBytes: Int]?

    /// How many members are looked through one by one.
    private static let fewMembers = 16

    /// An object without members.
    public init() { members = [] }

    /// An object of these members; nil when a key comes twice.
    init?(members: [Member]) {
        self.members = members
        guard members.count > Self.fewMembers else {
            for (place, member) in members.enumerated()
            where members[..<place].contains(where: { $0.key.hasSameBytes(as: member.key) }) {
                return nil
            }
            return
        }
        makePlaces()
        guard places?.count == members.count else { return nil }
    }

    /// A key that comes twice.
    static func repeatedKey(_ members: [Member]) -> String? {
        var seen = Set<KeyBytes>(minimumCapacity: members.count)
        return members.first { !seen.insert(KeyBytes($0.key)).inserted }?.key
    }

    /// The value of a key; setting nil removes it.
    public subscript(key: String) -> JSON? {
        get { place(of: key).map { members[$0].value } }
        set {
            switch (place(of: key), newValue) {
            case (let place?, let value?): members[place].value = value
            case (let place?, nil):
                members.remove(at: place)
                makePlaces()
            case (nil, let value?):
                members.append(Member(key: key, value: value))
                if places == nil { makePlaces() } else { places?[KeyBytes(key)] = members.count - 1 }
            case (nil, nil): break
            }
        }
    }

    /// Whether there are no members.
    public var isEmpty: Bool { members.isEmpty }

    private func place(of key: String) -> Int? {
        guard let places else { return members.firstIndex { $0.key.hasSameBytes(as: key) } }
        return places[KeyBytes(key)]
    }

    private mutating func makePlaces() {
        guard members.count > Self.fewMembers else { return places = nil }
        var places = [KeyBytes: Int](minimumCapacity: members.count)
        for (place, member) in members.enumerated() { places[KeyBytes(member.key)] = place }
        self.places = places
    }
}

/// A key that is hashed and compared by its bytes. `String` itself would hash all canonically equivalent texts alike, of
/// which a sender can make as many as they like.
private struct KeyBytes: Hashable {
    let key: String

    init(_ key: String) { self.key = key }

    static func == (left: KeyBytes, right: KeyBytes) -> Bool { left.key.hasSameBytes(as: right.key) }

    func hash(into hasher: inout Hasher) {
        var word: UInt64 = 0
        var count: UInt64 = 0
        for byte in key.utf8 {
            word = word << 8 | UInt64(byte)
            count += 1
            if count & 7 == 0 {
                hasher.combine(word)
                word = 0
            }
        }
        hasher.combine(word)
        hasher.combine(count)
    }
}

extension JSONObject: Equatable {
    /// Whether both have the same keys with the same values, in any order.
    public static func == (left: JSONObject, right: JSONObject) -> Bool {
        left.members.count == right.members.count && left.members.allSatisfy { right[$0.key] == $0.value }
    }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
    /// Makes an object; of a key that is given twice, the last value counts.
    public init(dictionaryLiteral elements: (String, JSON)...) {
        self.init()
        for (key, value) in elements { self[key] = value }
    }
}
