import Logging

extension Memory {
    /// What a message of this gateway says of who published it, so that nobody stores it again.
    private static let publisher = "memory-gateway"

    /// What is published of an event: all of it, but of memories neither content nor metadata, because channels know no
    /// clients.
    static func publication(_ event: Event) -> ShortTermPublication {
        var message: JSONObject = [
            "event_id": .int(event.id), "event_type": .string(event.type), "event_source": .string(event.source),
            "created_at": .string(event.createdAt.description), "published_by": .string(publisher),
        ]
        message["client_id"] = event.clientID.map { .int(Int64($0)) }
        if EventType.read(event.type) == nil {
            message["payload"] = event.payload
            message["metadata"] = event.metadata
        }
        return ShortTermPublication(channel: "events:\(event.type)", message: message.encoded)
    }

    /// Stores what is published on channels that are followed, until the task is cancelled.
    func followChannels() async {
        guard let subscriber else { return }
        let outage = Outage("Storing what is heard on channels", logger: logger, surroundings: surroundings)
        for await message in subscriber.messages {
            guard let draft = Self.draft(message), await isFirst(message) else { continue }
            do throws(MemoryError) {
                _ = try await log(draft)
                outage.succeeded()
            } catch {
                outage.failed(error)
            }
        }
    }

    /// Whether this gateway is the one that stores a message which all gateways hear. The same text on the same channel
    /// within two seconds counts as one message.
    private func isFirst(_ message: ValkeySubscriber.Message) async -> Bool {
        let digest = sha256(message.channel, String(decoding: message.payload, as: UTF8.self)).prefix(16).hex
        return await take("heard:\(digest)", RateLimit(perSecond: 0.5, burst: 1)) == nil
    }

    /// An event from whatever was published: its type and payload under the usual names, else the message as a whole.
    static func draft(_ message: ValkeySubscriber.Message) -> EventDraft? {
        let object = (try? JSON.parse(message.payload))?.object
        guard object?["published_by"]?.string != publisher else { return nil }
        let names = ["event_type", "type", "event"]
        let type = names.lazy.compactMap { object?[$0]?.string }.first ?? message.channel
        let payload = object?["payload"]?.object ?? object?["data"]?.object ?? object
        var owner = Owner.shared
        if let named = object.flatMap({ FieldReader($0)["client_id"] }) {
            // What names a client that cannot be read is not for everyone.
            guard let client = named.int.flatMap({ Int(exactly: $0) }) else { return nil }
            owner = .client(client)
        }
        let draft = EventDraft(
            type: String(type.prefix(100)), source: String(message.channel.prefix(50)), owner: owner,
            payload: payload ?? ["text": .string(String(decoding: message.payload.prefix(65_536), as: UTF8.self))])
        guard (try? draft.validate()) != nil else { return nil }
        return draft
    }
}
