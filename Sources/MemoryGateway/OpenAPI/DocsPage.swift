/// The API's description as a page that needs nothing from elsewhere.
enum DocsPage {
    static let html = """
        <!doctype html>
        <html lang="en"><head><meta charset="utf-8"><title>Memory Gateway API</title>
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <style>
        :root { color-scheme: light dark; --line: #8884; --soft: #8882; }
        body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
        h2 { margin: 2rem 0 .5rem; } details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; }
        summary { cursor: pointer; padding: .5rem .75rem; } summary code { font-weight: 600; }
        details > div { border-top: 1px solid var(--line); padding: .5rem .75rem; }
        .method { display: inline-block; font: 600 12px monospace; min-width: 4.5em; }
        pre { background: var(--soft); border-radius: 6px; overflow: auto; padding: .5rem; } table { border-collapse: collapse; }
        td, th { border-bottom: 1px solid var(--line); padding: .2rem .75rem .2rem 0; text-align: left; vertical-align: top; }
        </style></head><body><h1>Memory Gateway API</h1>
        <p id="about">Reading <a href="openapi.json">openapi.json</a> …</p><main></main>
        <script>
        const make = (tag, text) => { const e = document.createElement(tag); if (text) e.textContent = text; return e; };
        const row = (cells, tag = "td") => { const r = make("tr"); for (const c of cells) r.append(make(tag, c)); return r; };
        const schemaText = s => !s ? "" : s.$ref ? s.$ref.split("/").pop() : s.anyOf ? s.anyOf.map(schemaText).join(" or ")
            : s.enum ? s.enum.join(" | ") : s.type === "array" ? "list of " + schemaText(s.items) : [].concat(s.type ?? "any").join(" or ")
            + (s.minimum !== undefined ? ` ${s.minimum}…${s.maximum}` : "") + (s.maxLength ? ` of ${s.minLength}…${s.maxLength}` : "");
        const members = (name, all, into) => {
            const schema = all[name]; if (!schema) return;
            const table = make("table"); table.append(row(["member", "type", ""], "th"));
            for (const [key, s] of Object.entries(schema.properties ?? {}))
                table.append(row([key + ((schema.required ?? []).includes(key) ? " *" : ""), schemaText(s), s.description ?? ""]));
            into.append(make("h4", name), table);
            if (schema.example) into.append(make("pre", JSON.stringify(schema.example, null, 2)));
        };
        const show = api => {
            document.getElementById("about").textContent = api.info.description + " Version " + api.info.version + ".";
            const main = document.querySelector("main"), groups = {};
            for (const [path, item] of Object.entries(api.paths)) for (const [method, operation] of Object.entries(item))
                (groups[operation.tags[0]] ??= []).push({ path, method, operation });
            for (const [tag, list] of Object.entries(groups)) {
                main.append(make("h2", tag));
                for (const { path, method, operation } of list) {
                    const box = make("details"), head = make("summary"), body = make("div"), name = make("span", method.toUpperCase());
                    name.className = "method"; head.append(name, make("code", path), " " + operation.summary); box.append(head, body);
                    if (operation.parameters) {
                        const table = make("table"); table.append(row(["parameter", "in", "type", "", "example"], "th"));
                        for (const p of operation.parameters) table.append(row([p.name + (p.required ? " *" : ""), p.in,
                            schemaText(p.schema), p.description, JSON.stringify(p.example)]));
                        body.append(table);
                    }
                    const sent = operation.requestBody?.content["application/json"]?.schema;
                    if (sent) members(schemaText(sent), api.components.schemas, body);
                    const table = make("table"); table.append(row(["status", "body", ""], "th"));
                    for (const [status, r] of Object.entries(operation.responses)) table.append(row([status,
                        Object.values(r.content ?? {}).map(c => schemaText(c.schema)).join(), r.description]));
                    body.append(make("h4", "Answers"), table); main.append(box);
                }
            }
            main.append(make("h2", "Schemas"));
            for (const name of Object.keys(api.components.schemas)) {
                const box = make("details"), body = make("div"); box.append(make("summary", name), body);
                members(name, api.components.schemas, body); main.append(box);
            }
        };
        fetch("openapi.json").then(r => r.json()).then(show).catch(e => document.getElementById("about").textContent = String(e));
        </script></body></html>
        """
}
