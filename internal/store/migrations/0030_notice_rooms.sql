-- Rooms in which the server talks to its users. Written by package notice.
--
-- notice_rooms has a row for each user who ever got a notice.
-- compatible: 0013
CREATE TABLE notice_rooms (
	user_num BIGINT NOT NULL PRIMARY KEY,
	room_id  TEXT NOT NULL
) {{clustered}};
