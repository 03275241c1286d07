-- Media. Written by package media.
--
-- blobs has a row for each content that is kept, whatever names it: uploads of the
-- same bytes share one. A row whose refs are 0 goes after a day, and its bytes with it.
-- media has a row for each mxc: address, from its creation on. A row without a blob
-- waits for its upload, and goes when that has not come by expires_ts.
-- thumbnails has a row for each size that was asked for and made, at most a few for
-- each image: sizes are those of a fixed list. They go with the blob of the image.
-- compatible: 0013
CREATE TABLE blobs (
	hash       {{blob}} NOT NULL PRIMARY KEY, -- SHA-256
	name       TEXT NOT NULL,                 -- in its place
	place      BIGINT NOT NULL,               -- 1: the media folder, 2: the bucket
	size       BIGINT NOT NULL,
	refs       BIGINT NOT NULL,               -- rows of media and thumbnails that have it
	unused_ts  BIGINT NOT NULL DEFAULT 0,     -- since when refs is 0; ms of the database's clock
	created_ts BIGINT NOT NULL
) {{clustered}};
CREATE UNIQUE INDEX blobs_name ON blobs (name);
CREATE INDEX blobs_unused ON blobs (unused_ts) WHERE refs = 0;
CREATE TABLE media (
	origin      TEXT NOT NULL,   -- server name
	media_id    TEXT NOT NULL,
	user_num    BIGINT NOT NULL, -- 0: no local user has uploaded it
	hash        {{blob}},        -- NULL: not uploaded yet
	size        BIGINT NOT NULL DEFAULT 0,
	type        TEXT NOT NULL DEFAULT '', -- as uploaded
	file_name   TEXT NOT NULL DEFAULT '',
	created_ts  BIGINT NOT NULL, -- ms of the database's clock
	expires_ts  BIGINT NOT NULL DEFAULT 0, -- of a row that is not uploaded yet
	PRIMARY KEY (origin, media_id)
) {{clustered}};
CREATE INDEX media_user ON media (user_num, created_ts);
CREATE INDEX media_pending ON media (expires_ts) WHERE hash IS NULL;
CREATE TABLE thumbnails (
	image  {{blob}} NOT NULL, -- hash of the image
	spec   TEXT NOT NULL,     -- size and method, such as 320x240-scale
	hash   {{blob}} NOT NULL, -- of the thumbnail
	type   TEXT NOT NULL,
	PRIMARY KEY (image, spec)
) {{clustered}};
