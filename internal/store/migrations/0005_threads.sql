-- The newest event of each thread, and the counts of the thread up to it.
CREATE TABLE threads (
	room   BIGINT NOT NULL,
	root   TEXT NOT NULL, -- event ID
	slot   BIGINT NOT NULL,
	totals {{blob}},
	PRIMARY KEY (room, root)
) {{clustered}};
