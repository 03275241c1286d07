-- What a user keeps on the server: account data, tags, push rules, filters.
-- Written by package userdata.
-- compatible: 0004

-- room_id is '' for global data. A row is replaced, never deleted, so that
-- every client hears of it; there are at most 5,000 a user. The type
-- m.push_rules holds the stored form of the rules, not the content.
CREATE TABLE account_data (
    user_num BIGINT NOT NULL,
    room_id  TEXT   NOT NULL,
    type     TEXT   NOT NULL,
    content  TEXT   NOT NULL,
    slot     BIGINT NOT NULL, -- of its last change, among the user's
    PRIMARY KEY (user_num, room_id, type)
) {{clustered}};
CREATE INDEX account_data_slot ON account_data (user_num, slot);

-- A filter that a client named. At most 1,000 a user; then the oldest goes.
-- The same filter has the same number.
CREATE TABLE filters (
    user_num BIGINT NOT NULL,
    num      BIGINT NOT NULL,
    filter   TEXT   NOT NULL,
    PRIMARY KEY (user_num, num)
) {{clustered}};
