-- Durable readers of the stream, and jobs. Written by package reader.
--
-- reader_cursors has 1 or 64 rows for each reader, made when it first runs. They
-- stay when a release no longer has the reader.
-- reader_aside has a row for each row of the stream that a reader could not deal
-- with. An operator retries or discards it, or it is deleted after 90 days.
-- jobs has a row for each job from the commit that causes it until it is done. One
-- that failed too often stays, set aside, until an operator retries or discards it,
-- another job of its key takes its place, or 90 days are over.
-- compatible: 0013
CREATE TABLE reader_cursors (
	name  TEXT NOT NULL,
	shard BIGINT NOT NULL,
	pos   BIGINT NOT NULL, -- everything at or below it has been dealt with
	lease BIGINT NOT NULL, -- of the owner; nobody else may move pos
	PRIMARY KEY (name, shard)
) {{clustered}};
CREATE TABLE reader_aside (
	name       TEXT NOT NULL,
	shard      BIGINT NOT NULL,
	pos        BIGINT NOT NULL,
	owner_kind BIGINT NOT NULL,
	owner      BIGINT NOT NULL,
	kind       BIGINT NOT NULL,
	first_slot BIGINT NOT NULL,
	last_slot  BIGINT NOT NULL,
	tries      BIGINT NOT NULL,
	error      TEXT NOT NULL,
	aside_ts   BIGINT NOT NULL, -- ms of the database's clock
	retry      BIGINT NOT NULL DEFAULT 0, -- 1: an operator wants it tried again
	PRIMARY KEY (name, shard, pos)
) {{clustered}};
CREATE INDEX reader_aside_retry ON reader_aside (name, shard) WHERE retry = 1;
CREATE TABLE jobs (
	kind        TEXT NOT NULL,
	key         TEXT NOT NULL,
	seq         BIGINT NOT NULL, -- 0: no other job has its kind and key
	shard       BIGINT NOT NULL, -- of 64, by kind and key
	due         BIGINT NOT NULL, -- ms of the database's clock; 1 << 62: set aside
	payload     {{blob}},
	progress    {{blob}},          -- what the last run has saved
	tries       BIGINT NOT NULL DEFAULT 0, -- runs begun since it last got on
	error       TEXT NOT NULL DEFAULT '',
	lease       BIGINT NOT NULL DEFAULT 0, -- of the instance that runs it; 0: none does
	version     BIGINT NOT NULL DEFAULT 1, -- counts what happened to it
	enqueued_ts BIGINT NOT NULL, -- ms of the database's clock
	aside_ts    BIGINT NOT NULL DEFAULT 0, -- when it was set aside
	PRIMARY KEY (kind, key, seq)
) {{clustered}};
CREATE INDEX jobs_due ON jobs (shard, due);
CREATE INDEX jobs_aside ON jobs (aside_ts) WHERE aside_ts > 0;
