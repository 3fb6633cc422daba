extension Memory {
    /// Adds the next version of a prompt template; the old ones stay.
    public func addTemplate(_ draft: TemplateDraft) async throws(MemoryError) -> Template {
        try draft.validate()
        return try await write { session throws(MemoryError) in try TemplateRepository(session: session).add(draft) }
    }

    /// A version of a template; the latest when none is named.
    ///
    /// - Throws: ``MemoryError`` with `not_found`.
    public func template(_ name: String, version: String? = nil) async throws(MemoryError) -> Template {
        try Self.found(
            try await read { session throws(MemoryError) in
                try TemplateRepository(session: session).template(name, version: version)
            })
    }

    /// The latest version of every template, newest first.
    public func templates(page: PageRequest = PageRequest()) async throws(MemoryError) -> Page<Template> {
        try page.validate()
        let rows = try await read { session throws(MemoryError) in
            try TemplateRepository(session: session).list(page: page)
        }
        return page.page(rows, id: \.rowID)
    }
}
