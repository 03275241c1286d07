-- The indexes by which the server counts the aliases and the sessions of interactive
-- authentication of a user.
-- compatible: 0013
CREATE INDEX aliases_creator ON aliases (creator);
CREATE INDEX uia_sessions_user ON uia_sessions (user_num, expires_ts);
