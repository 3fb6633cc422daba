/// The names of everything that is logged beside a message.
package enum LogKey {
    package static let error = "error"
    package static let store = "store"
    package static let requestID = "request.id"
    package static let name = "name"
    package static let address = "address"
    package static let memory = "memory.id"
    package static let client = "client.id"
    package static let count = "count"
    package static let key = "key"
    package static let route = "route"
    package static let code = "code"
    package static let seconds = "seconds"
    package static let model = "embedding.model"
}
