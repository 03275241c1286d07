-- What users report to the server's administrators. Written by package report.
--
-- reports has a row for each report, at most 100 open ones of a user. A closed report goes
-- after 90 days, an open one stays.
-- compatible: 0013
CREATE TABLE reports (
	id          TEXT PRIMARY KEY,
	created_ts  BIGINT NOT NULL, -- ms of the database's clock
	reporter    BIGINT NOT NULL, -- users.num
	room_id     TEXT NOT NULL,   -- '': a user was reported
	event_id    TEXT NOT NULL,   -- '': the room or the user was reported
	reported    TEXT NOT NULL,   -- user ID: the user, or the sender of the event; '' for a room
	reason      TEXT NOT NULL,
	event       {{blob}},        -- the event as the reporter saw it
	assignee    TEXT NOT NULL DEFAULT '',
	note        TEXT NOT NULL DEFAULT '',
	closed_ts   BIGINT NOT NULL DEFAULT 0 -- 0: open
);
CREATE INDEX reports_state ON reports (closed_ts, created_ts, id);
CREATE INDEX reports_reporter ON reports (reporter, closed_ts);
