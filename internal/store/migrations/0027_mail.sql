-- Mail, and what stands on it. Written by packages mail, account, auth and threepid.
--
-- mail_budget has a few rows, one for each limit on sending: full_ts is when its
-- bucket will be full again.
-- mail_bounces has a row for each address whose mails came back, for 90 days.
-- threepids has the confirmed addresses of accounts: an address belongs to one.
-- threepid_sessions has a row for each address that is being confirmed, until it is
-- used or expires. token is the hash of what the mail holds, NULL if nothing can
-- confirm the address; secret is the hash of the client's secret.
-- Times are ms of the database's clock.
-- compatible: 0013
CREATE TABLE mail_budget (
	name    TEXT   NOT NULL PRIMARY KEY,
	full_ts BIGINT NOT NULL
) {{clustered}};
CREATE TABLE mail_bounces (
	address  TEXT   NOT NULL PRIMARY KEY,
	reason   TEXT   NOT NULL,
	bounces  BIGINT NOT NULL,
	first_ts BIGINT NOT NULL,
	last_ts  BIGINT NOT NULL
) {{clustered}};
CREATE INDEX mail_bounces_last ON mail_bounces (last_ts);
CREATE TABLE threepids (
	medium       TEXT   NOT NULL,
	address      TEXT   NOT NULL,
	user_num     BIGINT NOT NULL,
	validated_ts BIGINT NOT NULL,
	added_ts     BIGINT NOT NULL,
	PRIMARY KEY (medium, address)
) {{clustered}};
CREATE INDEX threepids_user ON threepids (user_num);
CREATE TABLE threepid_sessions (
	sid          TEXT   NOT NULL PRIMARY KEY, -- follows from purpose, address, user and secret
	purpose      BIGINT NOT NULL, -- 1: an address of an account, 2: registration, 3: a new password
	address      TEXT   NOT NULL,
	user_num     BIGINT NOT NULL, -- who adds the address; 0: nobody yet
	secret       {{blob}} NOT NULL,
	token        {{blob}},
	send_attempt BIGINT NOT NULL,
	next_link    TEXT   NOT NULL,
	validated_ts BIGINT NOT NULL DEFAULT 0,
	expires_ts   BIGINT NOT NULL
) {{clustered}};
CREATE INDEX threepid_sessions_expiry ON threepid_sessions (expires_ts);
