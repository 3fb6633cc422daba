import Glibc

extension PostgresDatabase {
    /// One thread's connection, and the rules of what may be tried again on it.
    final class Worker {
        private let configuration: PostgresConfiguration
        private let gate: ReconnectGate
        private var connection: PostgresConnection?
        var deadline = Deadline.after(.zero)

        init(_ configuration: PostgresConfiguration, _ gate: ReconnectGate) {
            self.configuration = configuration
            self.gate = gate
        }

        // MARK: Reading

        /// Runs the body; once more on a new connection when the old one turned out to be lost.
        func read<Value>(_ body: (any SQLSession) throws(MemoryError) -> Value) throws(MemoryError) -> Value {
            let wasConnected = connection != nil
            do {
                return try attemptRead(body)
            } catch {
                guard wasConnected, connection == nil, error.code == .unavailable, !deadline.hasPassed else {
                    throw error
                }
                return try attemptRead(body)
            }
        }

        private func attemptRead<Value>(
            _ body: (any SQLSession) throws(MemoryError) -> Value
        ) throws(MemoryError) -> Value {
            let connection = try connect()
            do {
                return try body(connection)
            } catch {
                settle(after: error)
                throw error
            }
        }

        // MARK: Writing

        /// Runs the body in a transaction. Until COMMIT is sent nothing can have been stored, so a lost connection and a
        /// conflict are tried again; after it, the server is asked what became of the transaction.
        func write<Value>(
            durable: Bool, _ body: (any SQLSession) throws(MemoryError) -> Value
        ) throws(MemoryError) -> Value {
            var retries = Retries()
            while true {
                do {
                    return try attemptWrite(durable: durable, body)
                } catch {
                    guard error.outcome != .unknown, retries.allow(error), !deadline.hasPassed else {
                        var error = error
                        error.outcome = error.outcome ?? .notStored
                        throw error
                    }
                    if connection != nil { usleep(retries.pause(before: deadline)) }
                }
            }
        }

        /// What was tried again: a lost connection once, a conflict as often as the deadline lets it, because one of those in
        /// conflict has always gone on.
        private struct Retries {
            private var conflicts: UInt32 = 0
            private var losses = 0

            mutating func allow(_ error: MemoryError) -> Bool {
                switch error.driverCode {
                case "40001", "40P01":
                    conflicts += 1
                    return true
                case "08006", "57P01", "57P02", "57P03", "25P03":
                    losses += 1
                    return losses == 1
                default: return false
                }
            }

            /// In microseconds, longer each time up to a third of a second.
            func pause(before deadline: Deadline) -> UInt32 {
                let pause = UInt32.random(in: 500...5000) << min(conflicts, 6)
                return min(pause, UInt32(deadline.remainingMilliseconds) * 1000)
            }
        }

        private func attemptWrite<Value>(
            durable: Bool, _ body: (any SQLSession) throws(MemoryError) -> Value
        ) throws(MemoryError) -> Value {
            let connection = try connect()
            let transaction: String
            let value: Value
            do {
                transaction = try connection.begin(durable: durable)
                value = try body(connection)
            } catch {
                settle(after: error)
                throw error
            }
            do {
                try connection.commit()
                return value
            } catch {
                settle(after: error)
                // An error that the server itself gave for COMMIT is an answer: it rolled back.
                if self.connection != nil, error.code != .timeout { throw error }
                try confirmCommit(transaction, connection.life, error)
                return value
            }
        }

        /// Asks on a new connection what became of a transaction whose COMMIT was not answered.
        ///
        /// After a crash the ids of transactions that left no trace are given again: then a commit may be another's.
        ///
        /// - Throws: the error, with the outcome `not_stored` when it was rolled back, `unknown` when nobody can tell.
        private func confirmCommit(
            _ transaction: String, _ life: String?, _ cause: MemoryError
        ) throws(MemoryError) {
            var error = cause
            // The commit may have used up the deadline; its fate is worth a little more.
            deadline = max(deadline, .after(.milliseconds(250)))
            while true {
                switch fate(of: transaction) {
                case "committed" where life != nil && connection?.life == life: return
                case "aborted":
                    error.outcome = .notStored
                    throw error
                case "in progress" where !deadline.hasPassed: usleep(5000)
                default:
                    error.outcome = .unknown
                    throw error
                }
            }
        }

        private func fate(of transaction: String) -> String? {
            let rows: [SQLRow]?
            do {
                rows = try attemptRead { session throws(MemoryError) in
                    try session.query("SELECT pg_xact_status($1::xid8)", [.text(transaction)])
                }
            } catch {
                rows = nil
            }
            return rows?.first?.optionalText(0)
        }

        // MARK: The connection

        private func connect() throws(MemoryError) -> PostgresConnection {
            if let connection {
                connection.deadline = deadline
                return connection
            }
            guard gate.tryEnter() else { throw .unavailable(.postgres, "reconnecting", driverCode: "gate") }
            do {
                let fresh = try PostgresConnection(configuration, deadline: deadline)
                gate.succeeded()
                connection = fresh
                return fresh
            } catch {
                if error.isOwnDelay { gate.undecided() } else { gate.failed() }
                throw error
            }
        }

        /// After a failure: rolls back, and lets the connection go unless it is surely in order.
        private func settle(after error: MemoryError) {
            let isFinal = error.driverCode.map(PostgresError.endsConnection.contains) ?? false
            if isFinal || connection?.rollback() != true { connection = nil }
        }
    }
}
