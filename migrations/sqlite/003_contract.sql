-- The tables of PostgreSQL's 002 and 004 that the embedded store lacked.

CREATE TABLE plans (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    plan_title TEXT,
    intent     TEXT,
    sop        TEXT,
    client_id  INTEGER,
    status     TEXT DEFAULT 'draft' CHECK (status IN ('draft', 'scheduled', 'active', 'completed')),
    metadata   TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER))
) STRICT;
CREATE INDEX plans_client_id ON plans (client_id);
CREATE INDEX plans_status ON plans (status);

CREATE TABLE scheduler_runs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    plan_id         INTEGER REFERENCES plans (id) ON DELETE CASCADE,
    schedule_blocks TEXT,
    client_id       INTEGER,
    status          TEXT DEFAULT 'scheduled',
    metadata        TEXT,
    created_at      INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER))
) STRICT;

CREATE TABLE execution_runs (
    id                    INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id                TEXT UNIQUE,
    run_type              TEXT CHECK (run_type IN ('Process', 'Touchpoint')),
    workflow_id           TEXT,
    process_template_id   TEXT,
    task_id               TEXT,
    project_id            TEXT,
    engagement_id         TEXT,
    executed_by_person_id TEXT,
    started_at            INTEGER,
    ended_at              INTEGER,
    actual_hours          REAL,
    outcome_notes         TEXT,
    metadata              TEXT,
    created_at            INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER))
) STRICT;
CREATE INDEX execution_runs_task_id ON execution_runs (task_id);
CREATE INDEX execution_runs_project_id ON execution_runs (project_id);
CREATE INDEX execution_runs_process_template_id ON execution_runs (process_template_id);
CREATE INDEX execution_runs_started_at ON execution_runs (started_at DESC);

CREATE TABLE graph_nodes (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    node_type  TEXT,
    node_id    TEXT UNIQUE,
    properties TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER))
) STRICT;

CREATE TABLE graph_edges (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    from_node_id TEXT REFERENCES graph_nodes (node_id),
    to_node_id   TEXT REFERENCES graph_nodes (node_id),
    edge_type    TEXT,
    properties   TEXT,
    created_at   INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    UNIQUE (from_node_id, to_node_id, edge_type)
) STRICT;
CREATE INDEX graph_edges_to_node_id ON graph_edges (to_node_id);

CREATE TABLE prompt_templates (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    template_name TEXT,
    template_type TEXT,
    content       TEXT,
    version       TEXT DEFAULT 'v1',
    metadata      TEXT,
    created_at    INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    UNIQUE (template_name, version)
) STRICT;

CREATE TABLE memory_history (
    event_id   INTEGER NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    content    TEXT NOT NULL,
    tags       TEXT NOT NULL,
    metadata   TEXT NOT NULL,
    changed_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    PRIMARY KEY (event_id, version)
) STRICT;

CREATE TABLE documents (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id  INTEGER NOT NULL,
    doc_id     TEXT NOT NULL,
    title      TEXT,
    content    TEXT NOT NULL,
    metadata   TEXT NOT NULL,
    chunks     INTEGER NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    UNIQUE (client_id, doc_id)
) STRICT;

CREATE TABLE document_chunks (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    client_id   INTEGER NOT NULL,
    chunk_index INTEGER NOT NULL,
    content     TEXT NOT NULL
) STRICT;
CREATE INDEX document_chunks_document_id ON document_chunks (document_id);

CREATE TABLE api_keys (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    hint       TEXT NOT NULL,
    hash       BLOB NOT NULL UNIQUE,
    clients    TEXT,
    can_write  INTEGER NOT NULL,
    can_share  INTEGER NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;

CREATE UNIQUE INDEX events_agent_memory ON events (client_id, json_extract(payload, '$.memory_id'))
    WHERE event_type LIKE 'agent_memory:%';
CREATE INDEX events_reflection ON events (client_id, id) WHERE event_type = 'reflection';
CREATE INDEX events_expiry ON events (json_extract(payload, '$.expires_at'))
    WHERE json_extract(payload, '$.expires_at') IS NOT NULL;
CREATE INDEX events_event_source ON events (event_source);

-- Full text over every kind of record, and over documents.
DROP TRIGGER memory_text_insert;
DROP TRIGGER memory_text_update;
DROP TRIGGER memory_text_delete;
CREATE TRIGGER memory_text_insert AFTER INSERT ON events
WHEN new.event_type LIKE 'memory:%' OR new.event_type LIKE 'agent_memory:%' OR new.event_type = 'reflection' BEGIN
    INSERT INTO memory_text (rowid, content) VALUES (new.id, json_extract(new.payload, '$.content'));
END;
CREATE TRIGGER memory_text_update AFTER UPDATE OF payload ON events
WHEN new.event_type LIKE 'memory:%' OR new.event_type LIKE 'agent_memory:%' OR new.event_type = 'reflection' BEGIN
    UPDATE memory_text SET content = json_extract(new.payload, '$.content') WHERE rowid = new.id;
END;
CREATE TRIGGER memory_text_delete AFTER DELETE ON events
WHEN old.event_type LIKE 'memory:%' OR old.event_type LIKE 'agent_memory:%' OR old.event_type = 'reflection' BEGIN
    DELETE FROM memory_text WHERE rowid = old.id;
END;
CREATE VIRTUAL TABLE document_text USING fts5 (content, tokenize = 'porter unicode61');
CREATE TRIGGER document_text_insert AFTER INSERT ON document_chunks BEGIN
    INSERT INTO document_text (rowid, content) VALUES (new.id, new.content);
END;
CREATE TRIGGER document_text_delete AFTER DELETE ON document_chunks BEGIN
    DELETE FROM document_text WHERE rowid = old.id;
END;
