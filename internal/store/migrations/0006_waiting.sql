-- Redactions that could not be applied yet: their target is not here.
-- compatible: 0006
CREATE TABLE waiting_redactions (
	room   BIGINT NOT NULL,
	target TEXT NOT NULL, -- event ID
	event  BIGINT NOT NULL,
	PRIMARY KEY (room, target, event)
) {{clustered}};
