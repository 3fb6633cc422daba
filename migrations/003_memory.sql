-- What the memory needs beside the tables of the specification, whose columns stay as they are.

-- A row says: the point of this record in this collection may differ from the record; make it so. It is written in the
-- transaction of the record, and goes when the vector store has the record's present state and the caches know of it.
CREATE TABLE memory_outbox (
    id         BIGSERIAL PRIMARY KEY,
    collection VARCHAR(50) NOT NULL,
    record_id  BIGINT NOT NULL,
    client_id  INTEGER NOT NULL,
    state      VARCHAR(10) NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'dead')),
    -- The vector store has it; only the invalidation of caches is owed.
    is_stored  BOOLEAN NOT NULL DEFAULT FALSE,
    attempts   INTEGER NOT NULL DEFAULT 0,
    -- When a worker may take it. Whoever works on it has moved this into the future: that is the lease.
    due_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- Grows with every change and every lease, so that nobody clears what they have not seen.
    fence      BIGINT NOT NULL DEFAULT 1,
    last_error VARCHAR(100),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (collection, record_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX memory_outbox_due ON memory_outbox (due_at) WHERE state = 'pending';

-- Vectors that callers supplied. They cannot be computed again, so they belong to the truth.
CREATE TABLE memory_embeddings (
    event_id  INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE,
    embedding BYTEA NOT NULL
);

-- The first answer of a request, for whoever asks again with the same key.
CREATE TABLE idempotency_keys (
    client_id    INTEGER NOT NULL,
    key          TEXT NOT NULL,
    request_hash BYTEA NOT NULL,
    event_ids    INTEGER[] NOT NULL DEFAULT '{}',
    response     TEXT,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- A client's memories by age, and the full text that answers when vectors cannot.
CREATE INDEX events_client_id_id ON events (client_id, id DESC);
CREATE INDEX events_memory_text ON events USING gin (to_tsvector('english', payload ->> 'content'))
    WHERE event_type LIKE 'memory:%';
