-- What the rest of the HTTP contract needs: earlier versions, documents, keys.

-- What a memory said before each change.
CREATE TABLE memory_history (
    event_id   INTEGER NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    content    TEXT NOT NULL,
    tags       JSONB NOT NULL,
    metadata   JSONB NOT NULL,
    changed_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    PRIMARY KEY (event_id, version)
);

-- Client 0 stands for documents that everyone shares.
CREATE TABLE documents (
    id         BIGSERIAL PRIMARY KEY,
    client_id  INTEGER NOT NULL,
    doc_id     VARCHAR(255) NOT NULL,
    title      TEXT,
    content    TEXT NOT NULL,
    metadata   JSONB NOT NULL,
    chunks     INTEGER NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    updated_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    UNIQUE (client_id, doc_id)
);

-- The id of a chunk is the id of its point.
CREATE TABLE document_chunks (
    id          BIGSERIAL PRIMARY KEY,
    document_id BIGINT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    client_id   INTEGER NOT NULL,
    chunk_index INTEGER NOT NULL,
    content     TEXT NOT NULL
);
CREATE INDEX document_chunks_document_id ON document_chunks (document_id);
CREATE INDEX document_chunks_text ON document_chunks USING gin (to_tsvector('english', content));

-- Only the SHA-256 of a key is here: whoever reads the table cannot use it.
CREATE TABLE api_keys (
    id         SERIAL PRIMARY KEY,
    name       VARCHAR(100) NOT NULL,
    hint       VARCHAR(16) NOT NULL,
    hash       BYTEA NOT NULL UNIQUE,
    -- The clients it is bound to, with commas between; null for all.
    clients    TEXT,
    can_write  BOOLEAN NOT NULL,
    can_share  BOOLEAN NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    expires_at TIMESTAMP,
    revoked_at TIMESTAMP
);

-- An agent memory whose memory_id is taken replaces it.
CREATE UNIQUE INDEX events_agent_memory ON events (client_id, (payload ->> 'memory_id'))
    WHERE event_type LIKE 'agent_memory:%';
-- Whether a client has reflections, which a recall asks before it searches their vectors.
CREATE INDEX events_reflection ON events (client_id, id) WHERE event_type = 'reflection';
-- What the sweep of expired memories looks for.
CREATE INDEX events_expiry ON events ((payload ->> 'expires_at') COLLATE "C") WHERE payload ? 'expires_at';
CREATE INDEX graph_edges_to_node_id ON graph_edges (to_node_id);

-- Full text over every kind of record.
DROP INDEX events_memory_text;
CREATE INDEX events_record_text ON events USING gin (to_tsvector('english', payload ->> 'content'))
    WHERE event_type LIKE 'memory:%' OR event_type LIKE 'agent_memory:%' OR event_type = 'reflection';
