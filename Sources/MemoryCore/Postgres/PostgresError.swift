/// From SQLSTATE to ``MemoryError``, in one place.
///
/// Source of the codes: PostgreSQL 15, Appendix A.
enum PostgresError {
    static func translate(state: String, message: String) -> MemoryError {
        switch state {
        case "40001", "40P01", "55P03":
            return MemoryError(
                .unavailable, busy, store: .postgres, driverCode: state, detail: message, isRetriable: true)
        case "57014":
            return MemoryError(
                .timeout, "The deadline passed while waiting for postgres", store: .postgres, driverCode: state,
                detail: message, isRetriable: true)
        case "2200H":
            return MemoryError(
                .idsExhausted, "The primary store has no ids left, and cannot store anything new", store: .postgres,
                driverCode: state, detail: message)
        case "23503":
            return MemoryError(.unprocessable, "It refers to something that does not exist", driverCode: state)
        case "23505":
            return MemoryError(.conflict, "It exists already", driverCode: state)
        case "22P05", "22021", "22P02", "22003", "54000", "54001", "23502", "23514":
            // The edge should have refused it; what Postgres says of it may hold the row, so it is not kept.
            return MemoryError(.invalidRequest, "The primary store refuses this value", driverCode: state)
        default:
            return MemoryError(
                .unavailable, busy, store: .postgres, driverCode: state, detail: message,
                isRetriable: !permanent.contains(state))
        }
    }

    private static let busy = "Primary storage unavailable, please retry"

    /// What only a person can mend: a wrong password, database or schema.
    private static let permanent: Set<String> = ["28000", "28P01", "3D000", "42P01", "42703", "42501", "42883"]

    /// After these the connection is of no use: the server is going away, or has become a standby.
    static let endsConnection: Set<String> = ["57P01", "57P02", "57P03", "25006", "25P03"]
}
