-- The index of messages. Written by package search.
--
-- search_index has a row for each message, room name and topic that is readable here, by
-- the number of its event: its tokens (package textsearch), room, sender and kind. The
-- text itself is not in it. A row goes when the event is redacted, and within a day after
-- the event was purged.
-- compatible: 0013
CREATE TABLE search_index (
	num   BIGINT PRIMARY KEY,
	words TSVECTOR NOT NULL
);
CREATE INDEX search_index_words ON search_index USING gin (words);
-- The job that indexes the messages from before, due at once.
INSERT INTO jobs (kind, key, seq, shard, due, enqueued_ts) VALUES ('search.rebuild', '', 0, 23, 1, 1)
	ON CONFLICT (kind, key, seq) DO NOTHING;
