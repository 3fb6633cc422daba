import Glibc

extension PostgresDatabase {
    /// One thread's connection, and the rules of what may be tried again on it.
    final class Worker {
        private let configuration: PostgresConfiguration
        private let cluster: PostgresCluster
        private let gate: ReconnectGate
        private var connection: PostgresConnection?
        var deadline = Deadline.after(.zero)

        init(_ configuration: PostgresConfiguration, _ cluster: PostgresCluster, _ gate: ReconnectGate) {
            self.configuration = configuration
            self.cluster = cluster
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
                case "08006", "57P01", "57P02", "57P03", "25P03", MemoryError.readOnlyCode:
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
                if durable { try checkWaitingCommit(connection) }
                transaction = try connection.begin(durable: durable)
                value = try body(connection)
            } catch {
                settle(after: error)
                throw error
            }
            let isEverywhere: Bool
            do {
                connection.deadline = connection.deadline.capped(at: Self.commitTime)
                isEverywhere = try connection.commit()
            } catch {
                settle(after: error)
                // An error that the server itself gave for COMMIT is an answer: it rolled back.
                if self.connection != nil, error.code != .timeout { throw error }
                try confirmCommit(transaction, connection.greeting.life, durable: durable, error)
                return value
            }
            guard isEverywhere else { throw Self.perhapsHereAlone }
            return value
        }

        /// How long COMMIT is waited for, however long the rest may take: only one that waits for its standby takes longer.
        private static let commitTime: Duration = .seconds(10)

        private static var perhapsHereAlone: MemoryError {
            var error = MemoryError.unavailable(
                .postgres, "committed with a warning: perhaps not on the standby", driverCode: "01000")
            error.outcome = .unknown
            return error
        }

        // MARK: Commits without an answer

        /// Asks on a new connection what became of a transaction whose COMMIT was not answered. It is never cancelled: that
        /// would make a wait for the standby a success.
        ///
        /// - Throws: the error, with the outcome `not_stored` when it was rolled back, `unknown` when nobody can tell.
        private func confirmCommit(
            _ transaction: String, _ life: String?, durable: Bool, _ cause: MemoryError
        ) throws(MemoryError) {
            var error = cause
            error.outcome = .unknown
            let commit = PostgresCluster.WaitingCommit(transaction: transaction, life: life)
            // It may wait for its standby, also where nobody says so in time.
            if durable, cause.code == .timeout { cluster.note(commit) }
            // The commit may have used up the deadline; its fate is worth a little more.
            deadline = max(deadline, .after(.milliseconds(250)))
            while true {
                let fate = fate(of: transaction)
                let verdict = fate?.verdict(life: life)
                if verdict == .committed || verdict == .aborted { cluster.forget(commit) }
                switch verdict {
                case .committed where fate?.isReplicated == true && durable:
                    guard isOnStandby() else { throw error }
                    return
                case .committed: return
                case .aborted:
                    error.outcome = .notStored
                    throw error
                case .inProgress where !deadline.hasPassed: usleep(5000)
                case .inProgress, .unknown, nil: throw error
                }
            }
        }

        private func fate(of transaction: String) -> CommitFate? {
            do {
                return try attemptRead { session throws(MemoryError) in try CommitFate(of: transaction, session) }
            } catch {
                return nil
            }
        }

        /// Whether the standby has what was committed up to now: a transaction that waits for it says so. That another one
        /// is committed does not: somebody may have ended its wait.
        private func isOnStandby() -> Bool {
            guard let connection else { return false }
            do {
                _ = try connection.begin(durable: true)
                _ = try connection.query("SELECT pg_logical_emit_message(true, 'memory-gateway', '')", [])
                return try connection.commit()
            } catch {
                settle(after: error)
                return false
            }
        }

        /// Refuses to write behind a commit that still waits for its standby: it would wait as well, nobody could say what
        /// became of it, and the server would be left with one more connection in use.
        private func checkWaitingCommit(_ connection: PostgresConnection) throws(MemoryError) {
            guard let waiting = cluster.waitingCommit else { return }
            // Another server, or the same after a crash, knows nothing of it, and may not even know so high an id.
            guard connection.greeting.life == waiting.life,
                try CommitFate(of: waiting.transaction, connection).verdict(life: waiting.life) == .inProgress
            else { return cluster.forget(waiting) }
            throw .unavailable(
                .postgres, "a commit waits for the synchronous standby", driverCode: MemoryError.standbyMissingCode)
        }

        // MARK: The connection

        private func connect() throws(MemoryError) -> PostgresConnection {
            if connection?.isOutdated(in: cluster) == true { connection = nil }
            if let connection {
                connection.deadline = deadline
                return connection
            }
            guard gate.tryEnter() else { throw .unavailable(.postgres, "reconnecting", driverCode: "gate") }
            do {
                let fresh = try PostgresConnection(configuration, cluster, deadline: deadline)
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
            if error.isReadOnly, let connection { cluster.end(term: connection.term) }
            let isFinal = error.driverCode.map(PostgresError.endsConnection.contains) ?? false
            if isFinal || connection?.rollback() != true { connection = nil }
        }
    }
}
