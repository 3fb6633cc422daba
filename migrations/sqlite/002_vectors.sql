-- Vectors beside the records. A point's place is its record's id; what searches filter by is in columns and terms.

CREATE TABLE vector_points (
    collection TEXT NOT NULL,
    id         INTEGER NOT NULL,
    client_id  INTEGER NOT NULL,
    -- bfloat16, little-endian, up to the last number that is not zero.
    dense      BLOB NOT NULL,
    -- What the ranking needs, and what filters compare: JSON.
    payload    TEXT NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (collection, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX vector_points_client ON vector_points (client_id, collection, id);
CREATE INDEX vector_points_expiry ON vector_points (client_id, collection, expires_at) WHERE expires_at IS NOT NULL;

-- One row for each term of a point: the inverted index of lexical search.
CREATE TABLE vector_terms (
    client_id  INTEGER NOT NULL,
    collection TEXT NOT NULL,
    term       INTEGER NOT NULL,
    id         INTEGER NOT NULL,
    weight     REAL NOT NULL,
    PRIMARY KEY (client_id, collection, term, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX vector_terms_point ON vector_terms (collection, id);
