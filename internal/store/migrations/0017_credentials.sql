-- What a password or the state of an account allows ends with it. Written by
-- packages account and auth.
--
-- users.credentials counts what ends everything that was allowed before: a new
-- password, a logout of all devices, a deactivation. A login token and a completed
-- stage of interactive authentication carry the number that they were made under
-- and are good for no other.
-- uia_sessions.result is the answer of the request that a session was completed
-- for, encrypted by the session's secret, which is not in the database.
-- The keys and messages of devices that are gone, and what deactivated accounts
-- left behind, are deleted: earlier versions could leave some.
-- compatible: 0013
ALTER TABLE users ADD COLUMN credentials BIGINT NOT NULL DEFAULT 0;
ALTER TABLE login_tokens ADD COLUMN credentials BIGINT NOT NULL DEFAULT 0;
ALTER TABLE uia_stages ADD COLUMN credentials BIGINT NOT NULL DEFAULT 0;
ALTER TABLE uia_sessions ADD COLUMN result {{blob}};
DELETE FROM devices WHERE user_num IN (SELECT num FROM users WHERE deactivated = 1);
DELETE FROM account_data WHERE user_num IN (SELECT num FROM users WHERE deactivated = 1);
DELETE FROM filters WHERE user_num IN (SELECT num FROM users WHERE deactivated = 1);
DELETE FROM presence WHERE user_num IN (SELECT num FROM users WHERE deactivated = 1);
DELETE FROM cross_signing_keys WHERE user_num IN (SELECT num FROM users WHERE deactivated = 1);
DELETE FROM key_signatures WHERE user_num IN (SELECT num FROM users WHERE deactivated = 1);
DELETE FROM key_backup_sessions WHERE user_num IN (SELECT num FROM users WHERE deactivated = 1);
UPDATE key_backups SET deleted = 1, auth_data = '{}', sessions = 0 WHERE deleted = 0 AND user_num IN (SELECT num FROM users WHERE deactivated = 1);
DELETE FROM access_tokens WHERE NOT EXISTS (SELECT 1 FROM devices d WHERE d.user_num = access_tokens.user_num AND d.device_id = access_tokens.device_id);
DELETE FROM refresh_tokens WHERE NOT EXISTS (SELECT 1 FROM devices d WHERE d.user_num = refresh_tokens.user_num AND d.device_id = refresh_tokens.device_id);
DELETE FROM device_keys WHERE NOT EXISTS (SELECT 1 FROM devices d WHERE d.user_num = device_keys.user_num AND d.device_id = device_keys.device_id);
DELETE FROM one_time_keys WHERE NOT EXISTS (SELECT 1 FROM devices d WHERE d.user_num = one_time_keys.user_num AND d.device_id = one_time_keys.device_id);
DELETE FROM fallback_keys WHERE NOT EXISTS (SELECT 1 FROM devices d WHERE d.user_num = fallback_keys.user_num AND d.device_id = fallback_keys.device_id);
DELETE FROM to_device WHERE NOT EXISTS (SELECT 1 FROM devices d WHERE d.user_num = to_device.user_num AND d.device_id = to_device.device_id);
