-- Pushers, and what they could not deliver yet. Written by package push.
--
-- pushers has a row for each pusher: at most 100 a user. It is written when a client
-- sets it, when it begins or ceases to fail, and when the number of unread events that
-- its phone shows begins or ceases to be 0; not for each message.
-- push_queue has a row for each notification that its gateway did not take at once, until
-- it does, at most 1,000 a pusher and for a day.
-- memberships.pushes is 1 if the user has a pusher, so that a message in a room costs
-- nothing for members who have none.
-- compatible: 0013
CREATE TABLE pushers (
	num        {{intkey}},
	user_num   BIGINT NOT NULL,
	app_id     TEXT NOT NULL,
	pushkey    TEXT NOT NULL,
	kind       TEXT NOT NULL, -- http
	device_id  TEXT NOT NULL, -- that set it; the pusher ends with it
	enabled    BIGINT NOT NULL,
	details    TEXT NOT NULL, -- JSON object: names, language, profile tag
	data       TEXT NOT NULL, -- JSON object, as the client gave it
	set_ts     BIGINT NOT NULL, -- ms; when the client last set it
	badge      BIGINT NOT NULL DEFAULT 0, -- 1: its gateway was last told of unread events
	tries      BIGINT NOT NULL DEFAULT 0, -- that failed in a row
	failing_ts BIGINT NOT NULL DEFAULT 0, -- since when it fails; 0: it does not
	next_ts    BIGINT NOT NULL DEFAULT 0, -- no try before
	aside_ts   BIGINT NOT NULL DEFAULT 0, -- when it was set aside; 0: it is not
	error      TEXT NOT NULL DEFAULT '', -- the last answer of its gateway
	UNIQUE (user_num, app_id, pushkey)
);
CREATE INDEX pushers_failing ON pushers (failing_ts) WHERE failing_ts > 0;
CREATE INDEX pushers_pushkey ON pushers (pushkey, app_id);
CREATE TABLE push_queue (
	pusher   BIGINT NOT NULL,
	pos      BIGINT NOT NULL, -- in the stream
	slot     BIGINT NOT NULL, -- of the room; 0: only the number of unread events is sent
	event    BIGINT NOT NULL,
	tweaks   TEXT NOT NULL, -- JSON object, or empty
	added_ts BIGINT NOT NULL, -- ms of the database's clock
	PRIMARY KEY (pusher, pos, slot)
) {{clustered}};
ALTER TABLE memberships ADD COLUMN pushes BIGINT NOT NULL DEFAULT 0;
CREATE INDEX memberships_pushes ON memberships (room, user_num) WHERE pushes = 1;
