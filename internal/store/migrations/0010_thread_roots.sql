-- The threads of a room by their newest events.
-- compatible: 0010
CREATE INDEX relations_threads ON relations (room, slot, off, target) WHERE rel_type = 'm.thread';
