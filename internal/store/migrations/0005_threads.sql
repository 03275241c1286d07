-- The events of each thread, with the counts of the thread up to each.
-- compatible: 0005
CREATE TABLE threads (
	room   BIGINT NOT NULL,
	root   TEXT NOT NULL, -- event ID
	slot   BIGINT NOT NULL,
	totals {{blob}},
	PRIMARY KEY (room, root, slot)
) {{clustered}};
CREATE INDEX threads_slot ON threads (room, slot, root);
