package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/mxerr"
)

const (
	// maxBackedUpKeys bounds the sessions of one request; clients send 100 to 200.
	maxBackedUpKeys = 10_000
	// maxBackupAuth bounds the auth data of a version: a public key and signatures.
	maxBackupAuth = 65_536
	// maxSessionData bounds the encrypted data of one session; clients send 1 KiB.
	maxSessionData = 8 << 10
	// maxBackupSessions bounds the sessions of all versions of a user.
	maxBackupSessions = 500_000
	// maxBackups bounds the versions of a user that are not deleted. A client makes one
	// when encryption is set up anew.
	maxBackups = 100
	// keptTombstones is how many versions back the server remembers that a version has
	// been deleted.
	keptTombstones = 100
)

// BackupVersion is a version of a key backup as it is answered.
type BackupVersion struct {
	Algorithm string          `json:"algorithm"`
	AuthData  json.RawMessage `json:"auth_data"`
	Count     int64           `json:"count"`
	ETag      string          `json:"etag"`
	Version   string          `json:"version"`
}

// BackupState is the answer to a write of sessions.
type BackupState struct {
	Count int64  `json:"count"`
	ETag  string `json:"etag"`
}

// KeyBackupData is one backed-up session.
type KeyBackupData struct {
	FirstMessageIndex *int64          `json:"first_message_index"`
	ForwardedCount    *int64          `json:"forwarded_count"`
	IsVerified        *bool           `json:"is_verified"`
	SessionData       json.RawMessage `json:"session_data"`
}

// RoomKeyBackup is the sessions of one room.
type RoomKeyBackup struct {
	Sessions map[string]KeyBackupData `json:"sessions"`
}

// CreateBackup makes a new version of the user's backup and gives its name.
//
// Spec: client-server-api#post_matrixclientv3room_keysversion
func (k *Keys) CreateBackup(ctx context.Context, d who.Device, algorithm string, authData json.RawMessage) (string, error) {
	if err := checkAuthData(algorithm, authData); err != nil {
		return "", err
	}
	var version int64
	err := k.backupChange(ctx, "create a key backup", d, func(r *store.Read, c *store.Change) error {
		last, err := keydb.LastBackupVersion(r, d.UserNum)
		if err != nil {
			return err
		}
		sum, err := keydb.BackupSumOf(r, d.UserNum)
		if err != nil {
			return err
		}
		if sum.Versions >= maxBackups {
			return mxerr.UserLimitExceeded("You have %d versions of the key backup: delete one of them first", sum.Versions).
				With("info_uri", "https://spec.matrix.org/latest/client-server-api/#server-side-key-backups")
		}
		version = last + 1
		keydb.PurgeBackups(c, d.UserNum, version-keptTombstones)
		keydb.AddBackup(c, d.UserNum, keydb.KeyBackup{Version: version, Algorithm: algorithm, AuthData: string(authData)})
		return nil
	})
	return strconv.FormatInt(version, 10), err
}

func checkAuthData(algorithm string, authData json.RawMessage) error {
	switch {
	case algorithm == "":
		return mxerr.MissingParam("A key backup needs an algorithm")
	case len(algorithm) > 255:
		return mxerr.InvalidParam("The name of the algorithm is longer than 255 bytes")
	case !canonicaljson.IsObject(authData):
		return mxerr.BadJSON("auth_data must be an object")
	case len(authData) > maxBackupAuth:
		return mxerr.TooLarge("auth_data has more than %d bytes", maxBackupAuth)
	}
	return nil
}

// backupChange builds a change on the user's head, so that writers of the same
// backup can't lose each other's counts.
func (k *Keys) backupChange(ctx context.Context, what string, d who.Device, build func(*store.Read, *store.Change) error) error {
	return k.retry(ctx, what, func(r *store.Read) (*store.Change, error) {
		c, err := begin(r, d)
		if err != nil {
			return nil, err
		}
		return c, build(r, c)
	})
}

// Backup gives a version of the user's backup; version "" = the newest.
//
// Spec: client-server-api#get_matrixclientv3room_keysversion
func (k *Keys) Backup(ctx context.Context, d who.Device, version string) (BackupVersion, error) {
	var b keydb.KeyBackup
	err := k.store.Read(ctx, func(r *store.Read) (err error) {
		if version == "" {
			b, err = keydb.LatestBackup(r, d.UserNum)
			if errors.Is(err, store.ErrNotFound) {
				return noBackup()
			}
			return err
		}
		b, err = existing(r, d, version)
		return err
	})
	if err != nil {
		return BackupVersion{}, err
	}
	return BackupVersion{Algorithm: b.Algorithm, AuthData: json.RawMessage(b.AuthData), Count: b.Count,
		ETag: strconv.FormatInt(b.ETag, 10), Version: strconv.FormatInt(b.Version, 10)}, nil
}

func noBackup() *mxerr.Error { return mxerr.NotFound("Unknown backup version") }

// existing is a version that is there and not deleted.
func existing(r *store.Read, d who.Device, version string) (keydb.KeyBackup, error) {
	number, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return keydb.KeyBackup{}, noBackup()
	}
	b, err := keydb.Backup(r, d.UserNum, number)
	if errors.Is(err, store.ErrNotFound) || (err == nil && b.Deleted) {
		return keydb.KeyBackup{}, noBackup()
	}
	return b, err
}

// UpdateBackup replaces the auth data of a version; the algorithm must be the
// same, and a version in the body must be that of the path ("" = none there).
//
// Spec: client-server-api#put_matrixclientv3room_keysversionversion
func (k *Keys) UpdateBackup(ctx context.Context, d who.Device, version, bodyVersion, algorithm string, authData json.RawMessage) error {
	if err := checkAuthData(algorithm, authData); err != nil {
		return err
	}
	if bodyVersion != "" && bodyVersion != version {
		return mxerr.InvalidParam("The version of the body is %q, that of the path %q", bodyVersion, version)
	}
	return k.backupChange(ctx, "update a key backup", d, func(r *store.Read, c *store.Change) error {
		b, err := existing(r, d, version)
		if err != nil {
			return err
		}
		if b.Algorithm != algorithm {
			return mxerr.InvalidParam("The algorithm of the backup is %s", b.Algorithm)
		}
		keydb.SetBackupAuth(c, d.UserNum, b.Version, string(authData))
		return nil
	})
}

// DeleteBackup deletes a version with its sessions. Deleting again does nothing.
//
// Spec: client-server-api#delete_matrixclientv3room_keysversionversion
func (k *Keys) DeleteBackup(ctx context.Context, d who.Device, version string) error {
	return k.backupChange(ctx, "delete a key backup", d, func(r *store.Read, c *store.Change) error {
		number, err := strconv.ParseInt(version, 10, 64)
		if err != nil {
			return noBackup()
		}
		if _, err := keydb.Backup(r, d.UserNum, number); errors.Is(err, store.ErrNotFound) {
			return noBackup()
		} else if err != nil {
			return err
		}
		keydb.DeleteBackup(c, d.UserNum, number)
		return nil
	})
}

// PutBackup stores sessions in the newest version; another version gives
// M_WRONG_ROOM_KEYS_VERSION. A session that is there is replaced only by a better
// one: verified, then of a lower index, then forwarded less often.
//
// Spec: client-server-api#server-side-key-backups
func (k *Keys) PutBackup(ctx context.Context, d who.Device, version string, rooms map[string]RoomKeyBackup) (BackupState, error) {
	keys, err := flatten(rooms)
	if err != nil {
		return BackupState{}, err
	}
	var state BackupState
	err = k.backupChange(ctx, "back up keys", d, func(r *store.Read, c *store.Change) error {
		b, err := newest(r, d, version)
		if err != nil {
			return err
		}
		have, err := backedUp(r, d, b, keys)
		if err != nil {
			return err
		}
		if err := checkSessions(r, d, len(keys)-len(have)); err != nil {
			return err
		}
		changed := false
		for _, key := range keys {
			old, there := have[[2]string{key.RoomID, key.SessionID}]
			if there && !better(key, old) {
				continue
			}
			keydb.PutBackedUpKey(c, d.UserNum, b.Version, key)
			changed = true
			if !there {
				b.Count++
			}
		}
		if changed {
			b.ETag++
			keydb.SetBackupCounts(c, d.UserNum, b.Version, b.ETag, b.Count)
		}
		state = BackupState{Count: b.Count, ETag: strconv.FormatInt(b.ETag, 10)}
		return nil
	})
	return state, err
}

// checkSessions refuses new sessions beyond those that a user may have.
func checkSessions(r *store.Read, d who.Device, more int) error {
	if more <= 0 {
		return nil
	}
	sum, err := keydb.BackupSumOf(r, d.UserNum)
	if err == nil && sum.Sessions+int64(more) > maxBackupSessions {
		return mxerr.TooLarge("Your key backups have %d keys, of at most %d: delete an old version first", sum.Sessions, maxBackupSessions)
	}
	return err
}

// newest wants the version to be the newest one.
func newest(r *store.Read, d who.Device, version string) (keydb.KeyBackup, error) {
	b, err := keydb.LatestBackup(r, d.UserNum)
	if errors.Is(err, store.ErrNotFound) {
		return b, noBackup()
	}
	if err == nil && strconv.FormatInt(b.Version, 10) != version {
		return b, mxerr.WrongRoomKeysVersion("The newest backup is version %d", b.Version).With("current_version", strconv.FormatInt(b.Version, 10))
	}
	return b, err
}

func backedUp(r *store.Read, d who.Device, b keydb.KeyBackup, keys []keydb.BackedUpKey) (map[[2]string]keydb.BackedUpKey, error) {
	var rooms, sessions []string
	for _, key := range keys {
		rooms, sessions = append(rooms, key.RoomID), append(sessions, key.SessionID)
	}
	rows, err := keydb.BackedUpSessions(r, d.UserNum, b.Version, rooms, sessions)
	have := make(map[[2]string]keydb.BackedUpKey, len(rows))
	for _, row := range rows {
		have[[2]string{row.RoomID, row.SessionID}] = row
	}
	return have, err
}

func better(fresh, old keydb.BackedUpKey) bool {
	if fresh.IsVerified != old.IsVerified {
		return fresh.IsVerified
	}
	if fresh.FirstMessageIndex != old.FirstMessageIndex {
		return fresh.FirstMessageIndex < old.FirstMessageIndex
	}
	return fresh.ForwardedCount < old.ForwardedCount
}

func flatten(rooms map[string]RoomKeyBackup) ([]keydb.BackedUpKey, error) {
	var keys []keydb.BackedUpKey
	for roomID, room := range rooms {
		for sessionID, data := range room.Sessions {
			if data.FirstMessageIndex == nil || data.ForwardedCount == nil || data.IsVerified == nil || !canonicaljson.IsObject(data.SessionData) {
				return nil, mxerr.BadJSON("The session %s needs first_message_index, forwarded_count, is_verified and session_data", sessionID)
			}
			if len(roomID) > 255 || len(sessionID) > 255 {
				return nil, mxerr.InvalidParam("A session's room or name is too long")
			}
			if len(data.SessionData) > maxSessionData {
				return nil, mxerr.TooLarge("The data of a session has more than %d bytes", maxSessionData)
			}
			keys = append(keys, keydb.BackedUpKey{RoomID: roomID, SessionID: sessionID, FirstMessageIndex: *data.FirstMessageIndex,
				ForwardedCount: *data.ForwardedCount, IsVerified: *data.IsVerified, SessionData: string(data.SessionData)})
			if len(keys) > maxBackedUpKeys {
				return nil, mxerr.TooLarge("More than %d sessions at once", maxBackedUpKeys)
			}
		}
	}
	return keys, nil
}

// BackedUp gives the sessions of a version by room and session ID; roomID "" =
// all rooms, sessionID "" = the whole room.
//
// Spec: client-server-api#get_matrixclientv3room_keyskeys
func (k *Keys) BackedUp(ctx context.Context, d who.Device, version, roomID, sessionID string) (map[string]RoomKeyBackup, error) {
	rooms := map[string]RoomKeyBackup{}
	err := k.store.Read(ctx, func(r *store.Read) error {
		b, err := existing(r, d, version)
		if err != nil {
			return err
		}
		return keydb.BackedUpKeys(r, d.UserNum, b.Version, roomID, sessionID, func(key keydb.BackedUpKey) error {
			if rooms[key.RoomID].Sessions == nil {
				rooms[key.RoomID] = RoomKeyBackup{Sessions: map[string]KeyBackupData{}}
			}
			rooms[key.RoomID].Sessions[key.SessionID] = KeyBackupData{FirstMessageIndex: &key.FirstMessageIndex,
				ForwardedCount: &key.ForwardedCount, IsVerified: &key.IsVerified, SessionData: json.RawMessage(key.SessionData)}
			return nil
		})
	})
	return rooms, err
}

// DeleteBackedUp deletes sessions of a version, chosen as by BackedUp.
//
// Spec: client-server-api#delete_matrixclientv3room_keyskeys
func (k *Keys) DeleteBackedUp(ctx context.Context, d who.Device, version, roomID, sessionID string) (BackupState, error) {
	var state BackupState
	err := k.backupChange(ctx, "delete backed-up keys", d, func(r *store.Read, c *store.Change) error {
		b, err := existing(r, d, version)
		if err != nil {
			return err
		}
		gone, err := keydb.CountBackedUpKeys(r, d.UserNum, b.Version, roomID, sessionID)
		if err != nil {
			return err
		}
		if gone > 0 {
			b.Count -= gone
			b.ETag++
			keydb.DeleteBackedUpKeys(c, d.UserNum, b.Version, roomID, sessionID)
			keydb.SetBackupCounts(c, d.UserNum, b.Version, b.ETag, b.Count)
		}
		state = BackupState{Count: b.Count, ETag: strconv.FormatInt(b.ETag, 10)}
		return nil
	})
	return state, err
}
