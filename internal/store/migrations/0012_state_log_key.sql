-- The event of an entry at a slot, from the index alone. Without its last column
-- SQLite prefers to walk through all changes of the room, newest first, until it
-- meets the entry.
-- compatible: 0012
DROP INDEX state_log_key;
CREATE INDEX state_log_key ON state_log (room, key, slot, event);
