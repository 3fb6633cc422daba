-- Keys that may read what belongs to no client, and not write it. An older gateway does not know of it: to it they may do neither.
ALTER TABLE api_keys ADD COLUMN can_read_shared BOOLEAN NOT NULL DEFAULT false;
