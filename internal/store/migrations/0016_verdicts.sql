-- Why events were rejected or soft-failed, for operators. Written by package room.
-- compatible: 0013
CREATE TABLE verdicts (
	room   BIGINT NOT NULL,
	event  BIGINT NOT NULL,
	rule   TEXT NOT NULL, -- number in the rules of the room's version; '': none of them refused it
	reason TEXT NOT NULL,
	PRIMARY KEY (room, event)
) {{clustered}};
