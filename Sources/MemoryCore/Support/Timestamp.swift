import Glibc

/// A moment in UTC, in whole microseconds: what Postgres keeps, so that nothing is lost on the way there and back.
public struct Timestamp: Sendable, Hashable, Comparable {
    /// Microseconds since 1970-01-01T00:00:00Z.
    public let microseconds: Int64

    /// A moment, by its microseconds since 1970.
    public init(microseconds: Int64) { self.microseconds = microseconds }

    /// The last moment of the year 9999, the last that RFC 3339 can say.
    private static let last = Timestamp(microseconds: 253_402_300_799_999_999)
    /// The first moment of the year 1.
    private static let first = Timestamp(microseconds: -62_135_596_800_000_000)

    /// This moment, or the nearest that RFC 3339 can say.
    var sayable: Timestamp { min(max(self, Self.first), Self.last) }

    /// The present moment of the wall clock.
    public static var now: Timestamp {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000)
    }

    /// Earlier before later.
    public static func < (left: Timestamp, right: Timestamp) -> Bool { left.microseconds < right.microseconds }

    /// This moment, moved by a duration; held at the ends of the range.
    public func advanced(by duration: Duration) -> Timestamp {
        let (sum, overflow) = microseconds.addingReportingOverflow(duration.nanoseconds / 1000)
        return Timestamp(microseconds: overflow ? (duration < .zero ? .min : .max) : sum)
    }
}

// MARK: The calendar

extension Timestamp {
    /// Year, month and day of the proleptic Gregorian calendar, and the microseconds into that day.
    var civil: (year: Int, month: Int, day: Int, microsecondsOfDay: Int64) {
        let (days, rest) = microseconds.flooredDivision(by: 86_400_000_000)
        // Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
        let shifted = days + 719_468
        let (era, dayOfEra) = shifted.flooredDivision(by: 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (Int(yearOfEra + era * 400 + (month <= 2 ? 1 : 0)), Int(month), Int(day), rest)
    }

    /// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (the same source, days_from_civil).
    private static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        let shifted = year - (month <= 2 ? 1 : 0)
        let (era, yearOfEra) = shifted.flooredDivision(by: 400)
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
}

extension Int64 {
    fileprivate func flooredDivision(by divisor: Int64) -> (quotient: Int64, remainder: Int64) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}

// MARK: RFC 3339

extension Timestamp: CustomStringConvertible {
    /// RFC 3339 in UTC with a `Z`; the fraction has three or six digits, or none when it is zero.
    public var description: String {
        let (year, month, day, rest) = civil
        let seconds = rest / 1_000_000
        let fraction = rest % 1_000_000
        var text = "\(pad(Int64(year), 4))-\(pad(Int64(month), 2))-\(pad(Int64(day), 2))T"
        text += "\(pad(seconds / 3600, 2)):\(pad(seconds / 60 % 60, 2)):\(pad(seconds % 60, 2))"
        if fraction > 0 { text += fraction % 1000 == 0 ? ".\(pad(fraction / 1000, 3))" : ".\(pad(fraction, 6))" }
        return text + "Z"
    }

    private func pad(_ value: Int64, _ width: Int) -> String {
        let digits = String(value)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }

    /// Reads RFC 3339 (`2026-05-07T14:30:00.123+02:00`); also a date alone, and a time without an offset, which is UTC.
    ///
    /// - Returns: nil for anything else, for a date that no calendar has, and for years outside 0001...9999.
    public init?(_ text: String) {
        var scanner = DigitScanner(bytes: Array(text.utf8))
        guard let year = scanner.number(4), scanner.take("-"), let month = scanner.number(2), scanner.take("-"),
            let day = scanner.number(2), year > 0, (1...12).contains(month), day >= 1,
            day
                <= [
                    31, year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28, 31, 30, 31, 30, 31, 31, 30,
                    31, 30, 31,
                ][Int(month) - 1]
        else { return nil }
        var time: Int64 = 0
        if !scanner.isAtEnd {
            guard scanner.take("T") || scanner.take("t") || scanner.take(" "), let clock = scanner.clock(),
                let offset = scanner.offset(), scanner.isAtEnd
            else { return nil }
            time = clock - offset
        }
        self.init(microseconds: Self.days(year: year, month: month, day: day) * 86_400_000_000 + time)
    }
}

private struct DigitScanner {
    let bytes: [UInt8]
    var position = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard position < bytes.count, bytes[position] == UInt8(ascii: scalar) else { return false }
        position += 1
        return true
    }

    mutating func number(_ width: Int) -> Int64? {
        guard position + width <= bytes.count else { return nil }
        var value: Int64 = 0
        for byte in bytes[position..<position + width] {
            guard (0x30...0x39).contains(byte) else { return nil }
            value = value * 10 + Int64(byte - 0x30)
        }
        position += width
        return value
    }

    /// `hh:mm[:ss[.fraction]]` in microseconds; a leap second counts as the second before it.
    mutating func clock() -> Int64? {
        guard let hour = number(2), hour < 24, take(":"), let minute = number(2), minute < 60 else { return nil }
        var seconds: Int64 = 0
        var fraction: Int64 = 0
        if take(":") {
            guard let second = number(2), second <= 60 else { return nil }
            seconds = min(second, 59)
            if take(".") {
                var unit: Int64 = 100_000
                var count = 0
                while let digit = number(1) {
                    fraction += digit * unit
                    unit /= 10
                    count += 1
                }
                if count == 0 { return nil }
            }
        }
        return ((hour * 60 + minute) * 60 + seconds) * 1_000_000 + fraction
    }

    /// The offset from UTC in microseconds; none means UTC.
    mutating func offset() -> Int64? {
        if isAtEnd || take("Z") || take("z") { return 0 }
        let sign: Int64 = take("-") ? -1 : 1
        guard sign < 0 || take("+"), let hour = number(2), hour < 24, take(":"), let minute = number(2), minute < 60
        else { return nil }
        return sign * (hour * 60 + minute) * 60_000_000
    }
}
