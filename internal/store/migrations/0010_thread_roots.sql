-- The threads of a room by their newest events.
CREATE INDEX relations_threads ON relations (room, slot, off, target) WHERE rel_type = 'm.thread';
