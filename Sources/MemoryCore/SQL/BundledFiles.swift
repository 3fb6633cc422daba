/// A file of the repository that is part of the program, so that one binary is all there is to deploy.
struct BundledFile: Sendable {
    let name: String
    let text: String
}

/// `migrations/` and `collections/`, in the order of their names. `make generate` writes their texts.
enum BundledFiles {}
