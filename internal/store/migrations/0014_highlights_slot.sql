-- An instance that follows what others write asks which of the new events count
-- more for somebody. Few events have such rows.
-- compatible: 0013
-- compatible: 0013
CREATE INDEX highlights_slot ON highlights (room, slot);
