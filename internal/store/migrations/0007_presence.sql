-- Presence. Written by package ephemeral; a row a local user who was ever
-- online. Stream rows of presence go with the stream (30 days).
-- compatible: 0007
CREATE TABLE presence (
    user_num   {{intkey}},
    presence   TEXT   NOT NULL, -- online, unavailable or offline
    status_msg TEXT,
    active_ts  BIGINT NOT NULL  -- ms
);
CREATE INDEX presence_active ON presence (active_ts) WHERE presence <> 'offline';
CREATE INDEX stream_presence ON stream (pos) WHERE kind = 6;
