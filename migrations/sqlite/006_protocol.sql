-- What whoever takes a row while another's lease runs must wait for, before the row may go: until then an older write may
-- still reach a vector store that knows no versions.
ALTER TABLE memory_outbox ADD COLUMN held_until INTEGER;

-- Rows of which only the invalidation of caches is owed are looked for by themselves, and must not stand in the way of others.
DROP INDEX memory_outbox_due;
CREATE INDEX memory_outbox_due ON memory_outbox (due_at) WHERE state = 'pending' AND is_stored = 0;
DROP INDEX memory_outbox_turns;
CREATE INDEX memory_outbox_turns ON memory_outbox (client_id, due_at) WHERE state = 'pending' AND is_stored = 0;
CREATE INDEX memory_outbox_stored ON memory_outbox (due_at) WHERE state = 'pending' AND is_stored = 1;

-- Clients whose erasure short-term memory does not have yet. While a row is here, nobody serves the client's sessions.
CREATE TABLE memory_erasures (
    client_id  INTEGER PRIMARY KEY,
    fence      INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER))
) STRICT;

-- Which version of its record a point shows; a write of an older one does nothing.
ALTER TABLE vector_points ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
