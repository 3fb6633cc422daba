-- The embedded primary store. Times are whole microseconds since 1970 in UTC; JSON is text.

CREATE TABLE client_profiles (
    client_id  INTEGER PRIMARY KEY,
    user_id    TEXT UNIQUE NOT NULL,
    full_name  TEXT,
    email      TEXT,
    tags       TEXT DEFAULT '[]',
    metadata   TEXT DEFAULT '{}',
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER))
) STRICT;

CREATE TABLE events (
    -- Never given twice: an id is a point's id, and may outlive its row in another store for a moment.
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    event_type   TEXT,
    event_source TEXT,
    client_id    INTEGER REFERENCES client_profiles (client_id),
    payload      TEXT,
    metadata     TEXT,
    created_at   INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER))
) STRICT;
CREATE INDEX events_event_type ON events (event_type);
CREATE INDEX events_created_at ON events (created_at DESC);
CREATE INDEX events_client_id_id ON events (client_id, id DESC);

-- The same meaning as in PostgreSQL's 003_memory.sql.
CREATE TABLE memory_outbox (
    id         INTEGER PRIMARY KEY,
    collection TEXT NOT NULL,
    record_id  INTEGER NOT NULL,
    client_id  INTEGER NOT NULL,
    state      TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'dead')),
    is_stored  INTEGER NOT NULL DEFAULT 0,
    attempts   INTEGER NOT NULL DEFAULT 0,
    due_at     INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    fence      INTEGER NOT NULL DEFAULT 1,
    last_error TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    UNIQUE (collection, record_id)
) STRICT;
CREATE INDEX memory_outbox_due ON memory_outbox (due_at) WHERE state = 'pending';

CREATE TABLE memory_embeddings (
    event_id  INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE,
    embedding BLOB NOT NULL
) STRICT;

CREATE TABLE idempotency_keys (
    client_id    INTEGER NOT NULL,
    key          TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    event_ids    TEXT NOT NULL DEFAULT '',
    response     TEXT,
    created_at   INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)),
    PRIMARY KEY (client_id, key)
) STRICT;
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- The full text that answers when vectors cannot.
CREATE VIRTUAL TABLE memory_text USING fts5 (content, tokenize = 'porter unicode61');
CREATE TRIGGER memory_text_insert AFTER INSERT ON events WHEN new.event_type LIKE 'memory:%' BEGIN
    INSERT INTO memory_text (rowid, content) VALUES (new.id, json_extract(new.payload, '$.content'));
END;
CREATE TRIGGER memory_text_update AFTER UPDATE OF payload ON events WHEN new.event_type LIKE 'memory:%' BEGIN
    UPDATE memory_text SET content = json_extract(new.payload, '$.content') WHERE rowid = new.id;
END;
CREATE TRIGGER memory_text_delete AFTER DELETE ON events WHEN old.event_type LIKE 'memory:%' BEGIN
    DELETE FROM memory_text WHERE rowid = old.id;
END;
