-- Scans of uploads for viruses. Written by package media.
--
-- unscanned_ts is since when content waits for the scanner (ms of the database's clock);
-- 0: it does not. It is set only while there is a scanner.
-- compatible: 0013
ALTER TABLE blobs ADD COLUMN unscanned_ts BIGINT NOT NULL DEFAULT 0;
