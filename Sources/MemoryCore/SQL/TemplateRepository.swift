/// Rows of `prompt_templates`. Versions are only ever added, so the newest row of a name is its latest version.
struct TemplateRepository {
    let session: any SQLSession

    /// An arbitrary number, so that only templates of a name share a lock.
    private static let lockSeed: Int64 = 0x7465_6D70_6C61

    /// Adds the next version; whoever adds one of the same name waits.
    func add(_ draft: TemplateDraft) throws(MemoryError) -> Template {
        if session.dialect == .postgres {
            _ = try session.query(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", [.text(draft.name), .int(Self.lockSeed)])
        }
        let last = try template(draft.name, version: nil)
        let number = last.flatMap { Int($0.version.dropFirst()) } ?? 0
        let rows = try session.query(
            """
            INSERT INTO prompt_templates (template_name, template_type, content, version, metadata)
            VALUES ($1, $2, $3, $4, #jsonb($5))
            RETURNING id, template_name, template_type, content, version, #json(metadata), #time(created_at)
            """,
            [
                .text(draft.name), .text(draft.type ?? last?.type ?? "custom"), .text(draft.content),
                .text("v\(number + 1)"), .json(draft.metadata),
            ])
        guard let row = rows.first else { throw .badReply(.postgres, "no template") }
        return try Self.template(row)
    }

    /// A version of a template; the latest when none is named.
    func template(_ name: String, version: String?) throws(MemoryError) -> Template? {
        let rows = try session.query(
            """
            SELECT id, template_name, template_type, content, version, #json(metadata), #time(created_at)
            FROM prompt_templates WHERE template_name = $1 AND (#text($2) IS NULL OR version = $2)
            ORDER BY id DESC LIMIT 1
            """, [.text(name), .optional(version)])
        return try rows.first.map(Self.template)
    }

    /// The latest version of every template, newest first.
    func list(page: PageRequest) throws(MemoryError) -> [Template] {
        try session.query(
            """
            SELECT id, template_name, template_type, content, version, #json(metadata), #time(created_at)
            FROM prompt_templates
            WHERE id IN (SELECT max(id) FROM prompt_templates GROUP BY template_name)
                AND (#bigint($1) IS NULL OR id < $1)
            ORDER BY id DESC LIMIT $2
            """, [page.before, page.fetch]
        ).map(Self.template)
    }

    private static func template(_ row: SQLRow) throws(MemoryError) -> Template {
        Template(
            rowID: try row.int(0), name: try row.text(1), type: row.optionalText(2) ?? "",
            content: row.optionalText(3) ?? "", version: row.optionalText(4) ?? "",
            metadata: try row.json(5).object ?? JSONObject(), createdAt: try row.timestamp(6))
    }
}
