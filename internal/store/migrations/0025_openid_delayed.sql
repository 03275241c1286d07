-- Tokens with which a user proves to another service who they are, and events to be sent
-- later. Times are ms of the store's clock; 0 = not yet.
-- compatible: 0013

-- hash is the SHA-256 of the token. Written by package auth. Deleted with the device, when
-- the user has 100 newer ones, or some time after it has expired.
CREATE TABLE openid_tokens (
	hash       {{blob}} NOT NULL PRIMARY KEY,
	user_num   BIGINT NOT NULL,
	device_id  TEXT   NOT NULL,
	expires_ts BIGINT NOT NULL
) {{clustered}};
CREATE INDEX openid_tokens_of_user ON openid_tokens (user_num, expires_ts);
CREATE INDEX openid_tokens_expiry ON openid_tokens (expires_ts);

-- Written by package delayed. A row has a job from its creation until it is finalised
-- (state 2 to 4), and is deleted 7 days after that, or when the user has newer ones of
-- 1 MiB.
CREATE TABLE delayed_events (
	delay_id  TEXT   NOT NULL PRIMARY KEY,
	user_num  BIGINT NOT NULL,
	device_id TEXT   NOT NULL, -- of the request, as path and txn_id
	path      TEXT   NOT NULL,
	txn_id    TEXT   NOT NULL,
	room_id   TEXT   NOT NULL,
	type      TEXT   NOT NULL,
	state_key TEXT,            -- NULL: a message
	content   TEXT   NOT NULL,
	size      BIGINT NOT NULL, -- bytes of the row, about
	delay     BIGINT NOT NULL, -- ms
	since_ts  BIGINT NOT NULL, -- when it was scheduled or restarted
	replaces  TEXT,            -- event ID of the state at that time, '' for none; NULL: it does not matter
	state     BIGINT NOT NULL, -- 0 scheduled, 1 being sent, 2 sent, 3 cancelled, 4 failed
	by_action BIGINT NOT NULL, -- 1: a request finalised it
	ended_ts  BIGINT NOT NULL, -- when it was finalised
	event_id  TEXT   NOT NULL, -- of what was sent
	error     TEXT   NOT NULL  -- JSON: why it could not be sent
) {{clustered}};
CREATE UNIQUE INDEX delayed_events_txn ON delayed_events (user_num, device_id, path, txn_id);
CREATE INDEX delayed_events_ended ON delayed_events (ended_ts) WHERE ended_ts > 0;
