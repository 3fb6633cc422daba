-- What whoever takes a row while another's lease runs must wait for, before the row may go: until then an older write may
-- still reach a vector store that knows no versions.
ALTER TABLE memory_outbox ADD COLUMN held_until TIMESTAMPTZ;

-- Rows of which only the invalidation of caches is owed are looked for by themselves, and must not stand in the way of others.
DROP INDEX memory_outbox_due;
CREATE INDEX memory_outbox_due ON memory_outbox (due_at) WHERE state = 'pending' AND NOT is_stored;
DROP INDEX memory_outbox_turns;
CREATE INDEX memory_outbox_turns ON memory_outbox (client_id, due_at) WHERE state = 'pending' AND NOT is_stored;
CREATE INDEX memory_outbox_stored ON memory_outbox (due_at) WHERE state = 'pending' AND is_stored;

-- Clients whose erasure short-term memory does not have yet. While a row is here, nobody serves the client's sessions.
CREATE TABLE memory_erasures (
    client_id  INTEGER PRIMARY KEY,
    fence      BIGINT NOT NULL,
    -- When it may be taken. Whoever works on it has moved this into the future: that is the lease.
    due_at     TIMESTAMPTZ NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
