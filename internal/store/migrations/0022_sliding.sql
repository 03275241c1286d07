-- The connections of sliding sync. Written by package slidingsync.
--
-- sliding_connections has a row for each conn_id of a device, with the number of its
-- present connection: a request without pos begins another.
-- sliding_states has what a connection was sent, as changes: a row adds to those of the
-- connection with a smaller gen, back to the last whole one. An answer adds a row only
-- if it sends a room for the first time, or in another way than before.
-- compatible: 0013
CREATE TABLE sliding_connections (
	user_num   BIGINT NOT NULL,
	device_id  TEXT NOT NULL,
	conn_id    TEXT NOT NULL,
	conn       BIGINT NOT NULL,
	used_ts    BIGINT NOT NULL, -- ms of the database's clock, about a day late
	PRIMARY KEY (user_num, device_id, conn_id)
) {{clustered}};
CREATE INDEX sliding_connections_used ON sliding_connections (used_ts);
CREATE TABLE sliding_states (
	user_num  BIGINT NOT NULL,
	device_id TEXT NOT NULL,
	conn      BIGINT NOT NULL,
	gen       BIGINT NOT NULL, -- from 1 on
	nonce     BIGINT NOT NULL, -- tells it from another attempt at the same gen
	whole     BIGINT NOT NULL, -- 1: says everything, without the rows before
	data      {{blob}} NOT NULL,
	PRIMARY KEY (user_num, device_id, conn, gen)
) {{clustered}};
