-- The newest event of each local user in each room and thread: it reads what is
-- before it, as a receipt does.
-- compatible: 0008
CREATE TABLE own_events (
	room     BIGINT NOT NULL,
	user_num BIGINT NOT NULL,
	thread   TEXT NOT NULL, -- '' main timeline, else the thread's root
	slot     BIGINT NOT NULL,
	PRIMARY KEY (room, user_num, thread)
) {{clustered}};
