-- Previews of links. Written by package preview.
--
-- A row for each link and language that was asked for lately. It is made anew when
-- expires_ts has passed, and goes a week after it was made, together with its image,
-- which is a row of media that no local user has uploaded. A row whose key is that of
-- an image is only there so that an image that was replaced goes later too.
-- compatible: 0013
CREATE TABLE url_previews (
	key        {{blob}} NOT NULL PRIMARY KEY,   -- SHA-256 of link and language
	answer     TEXT NOT NULL DEFAULT '',        -- JSON; empty: there is none
	failure    TEXT NOT NULL DEFAULT '',        -- why there is none, in words
	media_id   TEXT NOT NULL DEFAULT '',        -- of the image; empty: none
	made_ts    BIGINT NOT NULL,                 -- ms of the database's clock
	expires_ts BIGINT NOT NULL
) {{clustered}};
CREATE INDEX url_previews_made ON url_previews (made_ts);
