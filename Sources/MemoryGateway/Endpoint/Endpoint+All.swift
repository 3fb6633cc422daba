import MemoryCore

extension Endpoint {
    /// Every route there is.
    static let all: [Endpoint] = subjects + OperationsRoutes.endpoints(document: document.encoded)

    /// The description of all of them.
    static let document = OpenAPIDocument.make(
        subjects + OperationsRoutes.endpoints(document: []), schemas: schemas)

    private static let subjects: [Endpoint] =
        HealthRoutes.endpoints + RememberRoutes.endpoints + RecallRoutes.endpoints + RecordRoutes.endpoints
        + ClientRoutes.endpoints + DocumentRoutes.endpoints + GraphRoutes.endpoints + SimilarRoutes.endpoints
        + EventRoutes.endpoints + PlanRoutes.endpoints + RunRoutes.endpoints + TemplateRoutes.endpoints
        + KindRoutes.endpoints + SessionRoutes.endpoints

    private static let schemas: [(String, JSON)] =
        HealthRoutes.schemas + RememberRoutes.schemas + RecallRoutes.schemas + RecordRoutes.schemas
        + ClientRoutes.schemas + DocumentRoutes.schemas + GraphRoutes.schemas + SimilarRoutes.schemas
        + EventRoutes.schemas + PlanRoutes.schemas + RunRoutes.schemas + TemplateRoutes.schemas + KindRoutes.schemas
        + SessionRoutes.schemas + OperationsRoutes.schemas
}
