-- A document is replaced in slices, so that nobody else waits for the whole of it, and no reader sees a part of it.

-- Which chunks are the document's; none while there is nothing to read yet.
ALTER TABLE documents ADD COLUMN generation INTEGER DEFAULT 0;
ALTER TABLE document_chunks ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
CREATE INDEX document_chunks_generation ON document_chunks (document_id, generation);
DROP INDEX document_chunks_document_id;

-- Chunks that are not yet, or no longer, a document's: those that are due are in nobody's hands, and go.
CREATE TABLE document_remnants (
    document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    generation  INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    PRIMARY KEY (document_id, generation)
) STRICT;

-- A plan's schedules, also when the plan goes.
CREATE INDEX scheduler_runs_plan_id ON scheduler_runs (plan_id);
