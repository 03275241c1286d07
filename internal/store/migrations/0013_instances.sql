-- Instances of the server, each with a lease that it renews; times are of the
-- database's clock. A row for each start, and for each lease that was taken after
-- the last had run out. Expired rows are kept for a day. Written by package
-- cluster.
-- compatible: 0013
CREATE TABLE instances (
	lease       {{intkey}},
	name        TEXT NOT NULL,
	address     TEXT NOT NULL, -- host:port where other instances reach it
	fingerprint TEXT NOT NULL, -- SHA-256 of its certificate, in hex
	version     TEXT NOT NULL,
	schema      BIGINT NOT NULL, -- number of the newest migration that it knows
	started_ts  BIGINT NOT NULL,
	expires_ts  BIGINT NOT NULL,
	draining    BIGINT NOT NULL DEFAULT 0,
	position    BIGINT NOT NULL DEFAULT 0, -- up to where it has read the stream
	head        BIGINT NOT NULL DEFAULT 0, -- of the stream when it said so
	rooms       BIGINT NOT NULL DEFAULT 0, -- held in memory
	bus         BIGINT NOT NULL DEFAULT 0  -- 1: its wake-ups arrive
);
