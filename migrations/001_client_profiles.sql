-- The table that everything else refers to. A database that has it keeps it as it is.
CREATE TABLE IF NOT EXISTS client_profiles (
    client_id  SERIAL PRIMARY KEY,
    user_id    TEXT UNIQUE NOT NULL,
    full_name  TEXT,
    email      TEXT,
    tags       JSONB DEFAULT '[]',
    metadata   JSONB DEFAULT '{}',
    created_at TIMESTAMP DEFAULT (now() AT TIME ZONE 'utc'),
    updated_at TIMESTAMP DEFAULT (now() AT TIME ZONE 'utc')
);
