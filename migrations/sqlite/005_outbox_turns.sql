-- The outbox hands out rows by turns of clients as well as by age; this finds the next client, and its oldest rows.
CREATE INDEX memory_outbox_turns ON memory_outbox (client_id, due_at) WHERE state = 'pending';
