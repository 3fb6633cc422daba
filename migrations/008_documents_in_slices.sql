-- A document is replaced in slices, so that nobody else waits for the whole of it, and no reader sees a part of it.

-- Which chunks are the document's; none while there is nothing to read yet.
ALTER TABLE documents ADD COLUMN generation BIGINT DEFAULT 0;
ALTER TABLE document_chunks ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
CREATE INDEX document_chunks_generation ON document_chunks (document_id, generation);
DROP INDEX document_chunks_document_id;

-- Chunks that are not yet, or no longer, a document's: those that are due are in nobody's hands, and go.
CREATE TABLE document_remnants (
    document_id BIGINT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    generation  BIGINT NOT NULL,
    due_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (document_id, generation)
);

-- How many memories there are, which the reconciler asks every minute.
CREATE INDEX events_memory ON events (id) WHERE event_type LIKE 'memory:%';
-- A plan's schedules, also when the plan goes.
CREATE INDEX scheduler_runs_plan_id ON scheduler_runs (plan_id);
