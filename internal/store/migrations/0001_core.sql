-- The engine of the store, and the tables of rooms.
-- Times are milliseconds since 1970, positions microseconds; numbers come from
-- the table numbers. JSON is text, byte for byte. Binary forms begin with a
-- format letter.
-- compatible: 0001

CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
) {{clustered}};

CREATE TABLE numbers (
	name TEXT PRIMARY KEY,
	next BIGINT NOT NULL -- the first that no instance has reserved
) {{clustered}};

CREATE TABLE signing_keys (
	key_id     TEXT PRIMARY KEY,
	seed       {{blob}} NOT NULL,
	created_ts BIGINT NOT NULL,
	retired_ts BIGINT -- NULL: in use
) {{clustered}};

CREATE TABLE state_keys (
	num       {{intkey}},
	type      TEXT NOT NULL,
	state_key TEXT NOT NULL,
	UNIQUE (type, state_key)
);

CREATE TABLE stream (
	pos        {{intkey}},
	owner_kind BIGINT NOT NULL, -- 1 room, 2 user
	owner      BIGINT NOT NULL,
	kind       BIGINT NOT NULL,
	first_slot BIGINT NOT NULL,
	last_slot  BIGINT NOT NULL
);
CREATE INDEX stream_owner ON stream (owner_kind, owner, pos);
CREATE INDEX stream_device_lists ON stream (kind, pos) WHERE kind = 5;

CREATE TABLE users (
	num           {{intkey}},
	user_id       TEXT NOT NULL UNIQUE,
	local         BIGINT NOT NULL,
	head          BIGINT NOT NULL DEFAULT 0,
	slot          BIGINT NOT NULL DEFAULT 0,
	created_ts    BIGINT NOT NULL,
	password_hash TEXT,                      -- NULL: no password
	admin         BIGINT NOT NULL DEFAULT 0,
	guest         BIGINT NOT NULL DEFAULT 0,
	deactivated   BIGINT NOT NULL DEFAULT 0,
	erased        BIGINT NOT NULL DEFAULT 0,
	locked        BIGINT NOT NULL DEFAULT 0,
	suspended     BIGINT NOT NULL DEFAULT 0,
	account       BIGINT NOT NULL DEFAULT 0, -- 1: somebody registered it, 0: only a number
	appservice    TEXT                       -- ID of the application service that made it
);

CREATE TABLE rooms (
	num          {{intkey}},
	room_id      TEXT NOT NULL UNIQUE,
	version      TEXT NOT NULL,
	head         BIGINT NOT NULL DEFAULT 0,
	slot         BIGINT NOT NULL DEFAULT 0, -- last slot of the timeline
	receipt_slot BIGINT NOT NULL DEFAULT 0,
	resident     BIGINT NOT NULL DEFAULT 1, -- 0: this server is not in it
	partial      BIGINT NOT NULL DEFAULT 0, -- 1: state of a join is not complete yet
	extremities  TEXT NOT NULL DEFAULT '[]', -- event numbers
	depth        BIGINT NOT NULL DEFAULT 0, -- greatest of the extremities
	joined       BIGINT NOT NULL DEFAULT 0,
	invited      BIGINT NOT NULL DEFAULT 0,
	local_joined BIGINT NOT NULL DEFAULT 0,
	published    BIGINT NOT NULL DEFAULT 0,
	created_ts   BIGINT NOT NULL,
	totals       {{blob}}, -- of the last live event
	purged       BIGINT NOT NULL DEFAULT 0, -- up to this slot the timeline may have gaps
	blocked      BIGINT NOT NULL DEFAULT 0
);

-- The timeline lies together: live events at (slot, 0), those backfilled before
-- them at (slot, -1), (slot, -2) … Events without a place (outliers, rejected,
-- soft-failed) are at (0, num).
CREATE TABLE events (
	room             BIGINT NOT NULL,
	slot             BIGINT NOT NULL,
	off              BIGINT NOT NULL,
	num              BIGINT NOT NULL,
	event_id         TEXT NOT NULL,
	type             TEXT NOT NULL,
	state_key_num    BIGINT NOT NULL, -- state_keys.num, 0: not a state event
	sender           TEXT NOT NULL,
	depth            BIGINT NOT NULL,
	origin_server_ts BIGINT NOT NULL,
	received_ts      BIGINT NOT NULL,
	flags            BIGINT NOT NULL, -- 1 outlier, 2 rejected, 4 soft-failed, 8 bytes replaced by the redacted form
	state_before     BIGINT NOT NULL, -- 0: current state after slot - 1; > 0: version; < 0: current state after slot -n - 1
	redacted_by      BIGINT NOT NULL, -- event number, 0: not redacted
	totals           {{blob}},        -- running counts of the room and of the thread
	edges            {{blob}},        -- numbers of previous and auth events
	txn_device       TEXT, -- device of the sender that sent it, NULL: another server
	txn_id           TEXT,
	bytes            {{blob}} NOT NULL, -- canonical PDU without unsigned
	PRIMARY KEY (room, slot, off)
) {{clustered}};
CREATE UNIQUE INDEX events_num ON events (num);
CREATE UNIQUE INDEX events_id ON events (event_id);
CREATE INDEX events_redacted ON events (redacted_by) WHERE redacted_by > 0 AND flags < 8;
CREATE INDEX events_version ON events (room, state_before) WHERE state_before > 0;

CREATE TABLE current_state (
	room       BIGINT NOT NULL,
	key        BIGINT NOT NULL, -- state_keys.num
	event      BIGINT NOT NULL,
	slot       BIGINT NOT NULL, -- at which it came in
	membership BIGINT NOT NULL, -- 0: not a membership
	PRIMARY KEY (room, key)
) {{clustered}};
CREATE INDEX current_members ON current_state (room, membership, slot, key, event); -- holds all columns; 0 = what is no member
CREATE INDEX current_rooms ON current_state (key, membership, room) WHERE membership <> 0;

-- Joined members per server, this one too.
CREATE TABLE room_servers (
	room   BIGINT NOT NULL,
	server TEXT NOT NULL,
	joined BIGINT NOT NULL,
	PRIMARY KEY (room, server)
) {{clustered}};
CREATE INDEX room_servers_server ON room_servers (server, room);

CREATE TABLE state_log (
	room       BIGINT NOT NULL,
	slot       BIGINT NOT NULL,
	key        BIGINT NOT NULL,
	event      BIGINT NOT NULL, -- 0: removed
	prev_event BIGINT NOT NULL, -- 0: was not there
	PRIMARY KEY (room, slot, key)
) {{clustered}};
CREATE INDEX state_log_key ON state_log (room, key, slot);

-- Immutable states that are or were not current at any slot: of forks, of
-- backfilled and of rejected events.
CREATE TABLE state_versions (
	room         BIGINT NOT NULL,
	num          BIGINT NOT NULL,
	base_slot    BIGINT NOT NULL, -- root of the chain: current state after this slot
	base_version BIGINT NOT NULL, -- 0: the delta is against base_slot itself
	depth        BIGINT NOT NULL, -- deltas up to the root
	delta        {{blob}} NOT NULL,
	PRIMARY KEY (room, num)
) {{clustered}};

-- Local users only.
CREATE TABLE memberships (
	user_num   BIGINT NOT NULL,
	room       BIGINT NOT NULL,
	membership BIGINT NOT NULL,
	slot       BIGINT NOT NULL, -- of the room, at which it became so
	event      BIGINT NOT NULL,
	forgotten  BIGINT NOT NULL DEFAULT 0,
	user_slot  BIGINT NOT NULL DEFAULT 0, -- of the user, at which it became so
	stripped   TEXT, -- stripped state of an invite or knock, JSON list
	PRIMARY KEY (user_num, room)
) {{clustered}};
CREATE INDEX memberships_room ON memberships (room, membership, user_num);

CREATE TABLE relations (
	room     BIGINT NOT NULL,
	target   TEXT NOT NULL, -- event ID: it may come later than what relates to it
	rel_type TEXT NOT NULL,
	slot     BIGINT NOT NULL,
	off      BIGINT NOT NULL,
	event    BIGINT NOT NULL,
	type     TEXT NOT NULL,
	sender   TEXT NOT NULL,
	PRIMARY KEY (room, target, rel_type, slot, off)
) {{clustered}};

CREATE TABLE transactions (
	user_num BIGINT NOT NULL,
	device   TEXT NOT NULL,
	path     TEXT NOT NULL,
	txn_id   TEXT NOT NULL,
	event_id TEXT NOT NULL,
	room     BIGINT NOT NULL,
	at       BIGINT NOT NULL,
	PRIMARY KEY (user_num, device, path, txn_id)
) {{clustered}};

CREATE TABLE receipts (
	room     BIGINT NOT NULL,
	user_num BIGINT NOT NULL,
	kind     BIGINT NOT NULL, -- 1 m.read, 2 m.read.private
	thread   TEXT NOT NULL,   -- '' unthreaded, 'main' or a thread's root
	slot     BIGINT NOT NULL, -- place of the event in the timeline
	off      BIGINT NOT NULL,
	event_id TEXT NOT NULL,
	ts       BIGINT NOT NULL,
	seq      BIGINT NOT NULL, -- receipt slot of the room
	PRIMARY KEY (room, user_num, kind, thread)
) {{clustered}};
CREATE INDEX receipts_seq ON receipts (room, seq);

-- Events that count more for a member than the member's default.
CREATE TABLE highlights (
	room     BIGINT NOT NULL,
	user_num BIGINT NOT NULL,
	slot     BIGINT NOT NULL,
	thread   TEXT NOT NULL,   -- '' main timeline, else the thread's root
	kind     BIGINT NOT NULL, -- 1 notify, 2 highlight (which notifies too)
	event    BIGINT NOT NULL,
	PRIMARY KEY (room, user_num, slot)
) {{clustered}};

CREATE TABLE backward_extremities (
	room     BIGINT NOT NULL,
	event_id TEXT NOT NULL, -- not here
	slot     BIGINT NOT NULL, -- place before which it belongs
	off      BIGINT NOT NULL,
	PRIMARY KEY (room, event_id)
) {{clustered}};
