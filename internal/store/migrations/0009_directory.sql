-- Aliases of rooms on this server. Written by package directory.
-- compatible: 0009

CREATE TABLE aliases (
	alias      TEXT NOT NULL PRIMARY KEY,
	room       BIGINT NOT NULL,
	creator    TEXT NOT NULL, -- user ID
	created_ts BIGINT NOT NULL
) {{clustered}};
CREATE INDEX aliases_room ON aliases (room, alias);

-- The public directory, the fullest room first.
CREATE INDEX rooms_published ON rooms (joined, num) WHERE published = 1;
