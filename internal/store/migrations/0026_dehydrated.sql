-- What a client keeps of a dehydrated device, beside the device's row in devices and its keys: at most one device of a
-- user, without a session, to which others send keys while the user has none. Written by package e2ee.
--
-- Deleted with the device and the account.
-- compatible: 0013
CREATE TABLE dehydrated_devices (
	user_num  BIGINT NOT NULL PRIMARY KEY,
	device_id TEXT   NOT NULL,
	data      TEXT   NOT NULL -- JSON, 64 KiB at most; what is secret in it is encrypted
) {{clustered}};
