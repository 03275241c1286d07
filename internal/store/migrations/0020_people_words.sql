-- The index by which the user directory is searched. Written by package account.
--
-- A row for each end of each word of the local part and the display name of an active
-- account, folded (package textsearch): about 20 for a person, 512 at most. They are
-- written with the name, and go with the account. Accounts from before have theirs
-- within a day of the upgrade, usually a minute.
-- compatible: 0013
CREATE TABLE people_words (
	word     {{blob}} NOT NULL,
	user_num BIGINT NOT NULL,
	PRIMARY KEY (word, user_num)
) {{clustered}};
CREATE INDEX people_words_user ON people_words (user_num);
-- The job that indexes accounts from before, due at once; 'stoa doctor store' would
-- say that its shard is another.
INSERT INTO jobs (kind, key, seq, shard, due, enqueued_ts) VALUES ('housekeeping.people_index', '', 0, 16, 1, 1)
	ON CONFLICT (kind, key, seq) DO NOTHING;
