-- End-to-end encryption: device keys, one-time and fallback keys,
-- cross-signing, signatures, key backups, to-device messages.
-- Written by package e2ee. Times are ms since 1970; 0 = never. Keys and
-- contents are JSON byte for byte as the client sent them.
-- compatible: 0003

-- Identity keys of a device; at most one row a device, deleted with it.
CREATE TABLE device_keys (
    user_num  BIGINT NOT NULL,
    device_id TEXT   NOT NULL,
    keys      TEXT   NOT NULL, -- without "unsigned"
    PRIMARY KEY (user_num, device_id)
) {{clustered}};

-- At most 500 unclaimed a device. A claimed key stays for 7 days, so that an
-- upload that is sent again can't make it available a second time.
CREATE TABLE one_time_keys (
    user_num   BIGINT NOT NULL,
    device_id  TEXT   NOT NULL,
    algorithm  TEXT   NOT NULL,
    key_id     TEXT   NOT NULL,
    key        TEXT   NOT NULL,
    seq        BIGINT NOT NULL, -- order of upload, in which keys are given out
    claimed_ts BIGINT NOT NULL,
    PRIMARY KEY (user_num, device_id, algorithm, key_id)
) {{clustered}};
CREATE INDEX one_time_keys_claimed ON one_time_keys (claimed_ts) WHERE claimed_ts > 0;

-- At most one a device and algorithm, replaced by the next upload.
CREATE TABLE fallback_keys (
    user_num  BIGINT NOT NULL,
    device_id TEXT   NOT NULL,
    algorithm TEXT   NOT NULL,
    key_id    TEXT   NOT NULL,
    key       TEXT   NOT NULL,
    used      BIGINT NOT NULL,
    PRIMARY KEY (user_num, device_id, algorithm)
) {{clustered}};

-- Three rows a user at most; usage is master, self_signing or user_signing.
CREATE TABLE cross_signing_keys (
    user_num BIGINT NOT NULL,
    usage    TEXT   NOT NULL,
    keys     TEXT   NOT NULL,
    PRIMARY KEY (user_num, usage)
) {{clustered}};

-- Signatures made after the key was uploaded. target is a device ID or the
-- unpadded base64 of a public key. Deleted with the device or key.
CREATE TABLE key_signatures (
    user_num   BIGINT NOT NULL, -- whose key is signed
    target     TEXT   NOT NULL,
    signer_num BIGINT NOT NULL,
    signer_key TEXT   NOT NULL, -- algorithm:id
    signature  TEXT   NOT NULL,
    PRIMARY KEY (user_num, target, signer_num, signer_key)
) {{clustered}};

-- A version is never given out twice, so deleted ones keep their row, without
-- sessions and without auth data.
CREATE TABLE key_backups (
    user_num  BIGINT NOT NULL,
    version   BIGINT NOT NULL,
    algorithm TEXT   NOT NULL,
    auth_data TEXT   NOT NULL,
    etag      BIGINT NOT NULL,
    sessions  BIGINT NOT NULL, -- how many there are
    deleted   BIGINT NOT NULL,
    PRIMARY KEY (user_num, version)
) {{clustered}};

-- Grows with the sessions of the user's rooms; deleted with the version.
CREATE TABLE key_backup_sessions (
    user_num            BIGINT NOT NULL,
    version             BIGINT NOT NULL,
    room_id             TEXT   NOT NULL,
    session_id          TEXT   NOT NULL,
    first_message_index BIGINT NOT NULL,
    forwarded_count     BIGINT NOT NULL,
    is_verified         BIGINT NOT NULL,
    session_data        TEXT   NOT NULL,
    PRIMARY KEY (user_num, version, room_id, session_id)
) {{clustered}};

-- Messages not yet acknowledged by the device; slot is the user's. Deleted by
-- the device's next sync and with the device.
CREATE TABLE to_device (
    user_num  BIGINT NOT NULL,
    device_id TEXT   NOT NULL,
    slot      BIGINT NOT NULL,
    message   TEXT   NOT NULL,
    PRIMARY KEY (user_num, device_id, slot)
) {{clustered}};
