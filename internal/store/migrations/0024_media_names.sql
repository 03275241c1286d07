-- What names media, when it was last read, and which content is quarantined. Written by
-- packages media, room, account and userdata (functions of store/mediadb).
--
-- media_names has a row for each media ID of this server that a readable event, a field
-- of a profile or an entry of account data names: one statement for an event that names
-- media, none for others. Rows go with the redaction of the event or the next value of
-- the field. Media that loses its last row is deleted some time later. Media that never
-- had one, as only encrypted events name it or nothing, stays.
-- compatible: 0013
CREATE TABLE media_names (
	media_id TEXT NOT NULL,
	kind     BIGINT NOT NULL, -- 1: event, 2: profile, 3: account data
	scope    BIGINT NOT NULL, -- number of the room or user
	num      BIGINT NOT NULL, -- of the event; otherwise 0
	part     TEXT NOT NULL,   -- field of the profile; room and type of account data
	PRIMARY KEY (media_id, kind, scope, num, part)
) {{clustered}};
CREATE INDEX media_names_source ON media_names (kind, scope, num, part);
-- Since when nothing names the media, in ms; 0: something does, or nothing ever did; -1:
-- uploaded before names were recorded.
ALTER TABLE media ADD COLUMN unnamed_ts BIGINT NOT NULL DEFAULT -1;
ALTER TABLE media ADD COLUMN class BIGINT NOT NULL DEFAULT 1; -- 1: local, 2: remote, 3: of link previews
ALTER TABLE media ADD COLUMN read_ts BIGINT NOT NULL DEFAULT 0; -- last download in ms, to the day; 0: none
CREATE INDEX media_unnamed ON media (unnamed_ts) WHERE unnamed_ts > 0;
CREATE INDEX media_class ON media (class, created_ts);
CREATE INDEX media_hash ON media (hash);
-- Since when the content is quarantined: no address serves it, and it is kept.
ALTER TABLE blobs ADD COLUMN quarantined_ts BIGINT NOT NULL DEFAULT 0;
CREATE INDEX blobs_place ON blobs (place, hash);
CREATE INDEX blobs_quarantined ON blobs (quarantined_ts) WHERE quarantined_ts > 0;
