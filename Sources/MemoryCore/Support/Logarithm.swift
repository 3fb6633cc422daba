import Glibc

/// The natural logarithm, without importing the C library where names such as `read` would be taken for its own.
enum Logarithm {
    static func natural(_ value: Double) -> Double { log(value) }
}
