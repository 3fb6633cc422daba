/// Which OpenAI-compatible endpoint makes the vectors.
public struct EmbeddingsConfiguration: Sendable {
    /// The base, such as `https://openrouter.ai/api/v1`; `/embeddings` is added to it.
    public var url: String
    /// The name of the model.
    public var model: String
    /// Sent as a bearer token, if set.
    public var apiKey: Secret?
    /// Asks the model for this many dimensions, where it can give fewer than it has; at most 1536.
    public var dimensions: Int?
    /// How many texts go into one request, 1...2048.
    public var maxBatch = 64

    /// An endpoint and a model.
    public init(url: String, model: String, apiKey: Secret? = nil) {
        self.url = url
        self.model = model
        self.apiKey = apiKey
    }

    /// OpenRouter, with the model that the collections are made for.
    public static func openRouter(apiKey: Secret) -> EmbeddingsConfiguration {
        EmbeddingsConfiguration(
            url: "https://openrouter.ai/api/v1", model: "openai/text-embedding-3-small", apiKey: apiKey)
    }
}
