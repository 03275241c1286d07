-- Accounts, devices, tokens, interactive authentication, limits.
-- Written by packages account and auth. Times are ms since 1970; 0 = never.
-- compatible: 0002

-- Accounts are columns of users.
CREATE INDEX users_accounts ON users (num) WHERE account = 1;

-- One field of a profile; its value is JSON as it came.
CREATE TABLE profiles (
	user_num BIGINT NOT NULL,
	field    TEXT   NOT NULL,
	value    TEXT   NOT NULL,
	PRIMARY KEY (user_num, field)
) {{clustered}};

-- generation: tokens of an earlier one are revoked (see access_tokens).
CREATE TABLE devices (
	user_num     BIGINT NOT NULL,
	device_id    TEXT   NOT NULL,
	display_name TEXT,
	created_ts   BIGINT NOT NULL,
	seen_ts      BIGINT NOT NULL,
	seen_ip      TEXT   NOT NULL,
	generation   BIGINT NOT NULL,
	PRIMARY KEY (user_num, device_id)
) {{clustered}};

-- hash is the SHA-256 of the token. A refresh makes tokens of the next
-- generation; the first use of one of them moves the device's generation there.
CREATE TABLE access_tokens (
	hash       {{blob}} NOT NULL PRIMARY KEY,
	user_num   BIGINT NOT NULL,
	device_id  TEXT   NOT NULL,
	generation BIGINT NOT NULL,
	expires_ts BIGINT NOT NULL
) {{clustered}};
CREATE INDEX access_tokens_of_device ON access_tokens (user_num, device_id);

CREATE TABLE refresh_tokens (
	hash       {{blob}} NOT NULL PRIMARY KEY,
	user_num   BIGINT NOT NULL,
	device_id  TEXT   NOT NULL,
	generation BIGINT NOT NULL
) {{clustered}};
CREATE INDEX refresh_tokens_of_device ON refresh_tokens (user_num, device_id);

-- A login token is good for one login.
CREATE TABLE login_tokens (
	hash       {{blob}} NOT NULL PRIMARY KEY,
	user_num   BIGINT NOT NULL,
	expires_ts BIGINT NOT NULL
) {{clustered}};
CREATE INDEX login_tokens_expiry ON login_tokens (expires_ts);

-- A session of interactive authentication, bound to one operation.
-- user_num is 0 where no access token was given.
CREATE TABLE uia_sessions (
	hash       {{blob}} NOT NULL PRIMARY KEY,
	operation  TEXT   NOT NULL,
	user_num   BIGINT NOT NULL,
	expires_ts BIGINT NOT NULL
) {{clustered}};
CREATE INDEX uia_sessions_expiry ON uia_sessions (expires_ts);

-- A completed stage and what it proved (a user ID, a token, accepted versions).
CREATE TABLE uia_stages (
	hash       {{blob}} NOT NULL,
	stage      TEXT   NOT NULL,
	result     TEXT   NOT NULL,
	expires_ts BIGINT NOT NULL,
	PRIMARY KEY (hash, stage)
) {{clustered}};
CREATE INDEX uia_stages_expiry ON uia_stages (expires_ts);

-- hash is the SHA-256 of the token in hexadecimal; name is how admins speak of it.
CREATE TABLE registration_tokens (
	hash         TEXT   NOT NULL PRIMARY KEY,
	name         TEXT   NOT NULL UNIQUE,
	uses_allowed BIGINT NOT NULL, -- 0 = any number
	used         BIGINT NOT NULL,
	created_ts   BIGINT NOT NULL,
	expires_ts   BIGINT NOT NULL
) {{clustered}};

-- A limit that is exact over all instances: full_ts is when its bucket will be
-- full again.
CREATE TABLE limits (
	name    TEXT   NOT NULL PRIMARY KEY,
	full_ts BIGINT NOT NULL
) {{clustered}};
CREATE INDEX limits_full ON limits (full_ts);
