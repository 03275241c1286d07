// Tables key_backups and key_backup_sessions.

package keydb

import "stoa/internal/store"

// KeyBackup is a version of a user's key backup.
type KeyBackup struct {
	Version   int64
	Algorithm string
	AuthData  string // JSON
	ETag      int64  // grows with every change of the sessions
	Count     int64  // sessions
	Deleted   bool
}

// BackedUpKey is a backed-up room key.
type BackedUpKey struct {
	RoomID            string
	SessionID         string
	FirstMessageIndex int64
	ForwardedCount    int64
	IsVerified        bool
	SessionData       string // JSON
}

var (
	insertBackup = store.Prepare(`INSERT INTO key_backups (user_num, version, algorithm, auth_data, etag, sessions, deleted) VALUES ($1, $2, $3, $4, 0, 0, 0)`)
	selectBackup = store.Prepare(`SELECT version, algorithm, auth_data, etag, sessions, deleted FROM key_backups WHERE user_num = $1 AND version = $2`)
	latestBackup = store.Prepare(`SELECT version, algorithm, auth_data, etag, sessions, deleted FROM key_backups
		WHERE user_num = $1 AND deleted = 0 ORDER BY version DESC LIMIT 1`)
	lastBackupVersion  = store.Prepare(`SELECT COALESCE(MAX(version), 0) FROM key_backups WHERE user_num = $1`)
	selectBackupSum    = store.Prepare(`SELECT COUNT(*), COALESCE(SUM(sessions), 0) FROM key_backups WHERE user_num = $1 AND deleted = 0`)
	purgeBackups       = store.Prepare(`DELETE FROM key_backups WHERE user_num = $1 AND deleted = 1 AND version <= $2`)
	updateBackupAuth   = store.Prepare(`UPDATE key_backups SET auth_data = $3 WHERE user_num = $1 AND version = $2`)
	updateBackupCounts = store.Prepare(`UPDATE key_backups SET etag = $3, sessions = $4 WHERE user_num = $1 AND version = $2`)
	markBackupDeleted  = store.Prepare(`UPDATE key_backups SET deleted = 1, auth_data = '{}', sessions = 0 WHERE user_num = $1 AND version = $2`)

	upsertBackedUpKey = store.Prepare(`INSERT INTO key_backup_sessions
		(user_num, version, room_id, session_id, first_message_index, forwarded_count, is_verified, session_data)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (user_num, version, room_id, session_id) DO UPDATE SET first_message_index = excluded.first_message_index,
		forwarded_count = excluded.forwarded_count, is_verified = excluded.is_verified, session_data = excluded.session_data`)
	selectBackedUpKeys = store.Prepare(`SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data
		FROM key_backup_sessions WHERE user_num = $1 AND version = $2
		AND ($3 = '' OR room_id = $3) AND ($4 = '' OR session_id = $4) ORDER BY room_id, session_id`)
	selectSessions = store.Prepare(`SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, ''
		FROM key_backup_sessions WHERE user_num = $1 AND version = $2 AND {{intext room_id $3}} AND {{intext session_id $4}}`)
	countBackedUpKeys = store.Prepare(`SELECT COUNT(*) FROM key_backup_sessions WHERE user_num = $1 AND version = $2
		AND ($3 = '' OR room_id = $3) AND ($4 = '' OR session_id = $4)`)
	deleteBackedUpKeys = store.Prepare(`DELETE FROM key_backup_sessions WHERE user_num = $1 AND version = $2
		AND ($3 = '' OR room_id = $3) AND ($4 = '' OR session_id = $4)`)
)

func scanBackup(row *store.Row) (b KeyBackup) {
	row.Scan(&b.Version, &b.Algorithm, &b.AuthData, &b.ETag, &b.Count)
	b.Deleted = row.Int() != 0
	return b
}

func scanBackedUpKey(row *store.Row) (k BackedUpKey) {
	row.Scan(&k.RoomID, &k.SessionID, &k.FirstMessageIndex, &k.ForwardedCount)
	k.IsVerified, k.SessionData = row.Int() != 0, row.Text()
	return k
}

// AddBackup creates a version of the user's key backup, without sessions.
func AddBackup(c *store.Change, user store.UserNum, b KeyBackup) {
	c.Exec(insertBackup, user, b.Version, b.Algorithm, b.AuthData)
}

// PurgeBackups removes what is left of deleted versions up to a version.
func PurgeBackups(c *store.Change, user store.UserNum, upTo int64) { c.Exec(purgeBackups, user, upTo) }

// SetBackupAuth replaces the auth data of a version.
func SetBackupAuth(c *store.Change, user store.UserNum, version int64, authData string) {
	c.Exec(updateBackupAuth, user, version, authData)
}

// SetBackupCounts sets the ETag and count of a version after a change of its sessions.
func SetBackupCounts(c *store.Change, user store.UserNum, version, etag, count int64) {
	c.Exec(updateBackupCounts, user, version, etag, count)
}

// DeleteBackup deletes a version's sessions and marks it deleted.
func DeleteBackup(c *store.Change, user store.UserNum, version int64) {
	c.Exec(deleteBackedUpKeys, user, version, "", "")
	c.Exec(markBackupDeleted, user, version)
}

// PutBackedUpKey writes a session, or replaces it.
func PutBackedUpKey(c *store.Change, user store.UserNum, version int64, k BackedUpKey) {
	c.Exec(upsertBackedUpKey, user, version, k.RoomID, k.SessionID, k.FirstMessageIndex, k.ForwardedCount, k.IsVerified, k.SessionData)
}

// DeleteBackedUpKeys deletes sessions; roomID "" = of all rooms, sessionID "" =
// all of the room.
func DeleteBackedUpKeys(c *store.Change, user store.UserNum, version int64, roomID, sessionID string) {
	c.Exec(deleteBackedUpKeys, user, version, roomID, sessionID)
}

// Backup returns a version, even if deleted, or ErrNotFound.
func Backup(r *store.Read, user store.UserNum, version int64) (KeyBackup, error) {
	return store.QueryOne(r, selectBackup, scanBackup, user, version)
}

// LatestBackup returns the newest version that is not deleted; ErrNotFound.
func LatestBackup(r *store.Read, user store.UserNum) (KeyBackup, error) {
	return store.QueryOne(r, latestBackup, scanBackup, user)
}

// LastBackupVersion is the newest version, deleted or not; 0 = none yet.
func LastBackupVersion(r *store.Read, user store.UserNum) (int64, error) {
	return store.QueryOne(r, lastBackupVersion, (*store.Row).Int, user)
}

// BackedUpKeys calls f for each session of the version; roomID "" = of all
// rooms, sessionID "" = all of the room. Ordered by room, then session.
func BackedUpKeys(r *store.Read, user store.UserNum, version int64, roomID, sessionID string, f func(BackedUpKey) error) error {
	return store.QueryEach(r, selectBackedUpKeys, func(row *store.Row) error { return f(scanBackedUpKey(row)) }, user, version, roomID, sessionID)
}

// BackedUpSessions returns the sessions among the given rooms and session IDs,
// without their data.
func BackedUpSessions(r *store.Read, user store.UserNum, version int64, roomIDs, sessionIDs []string) ([]BackedUpKey, error) {
	return store.Query(r, selectSessions, scanBackedUpKey, user, version, roomIDs, sessionIDs)
}

// CountBackedUpKeys counts sessions, chosen as by BackedUpKeys.
func CountBackedUpKeys(r *store.Read, user store.UserNum, version int64, roomID, sessionID string) (int64, error) {
	return store.QueryOne(r, countBackedUpKeys, (*store.Row).Int, user, version, roomID, sessionID)
}

// BackupSum is the sum over a user's versions that are not deleted.
type BackupSum struct{ Versions, Sessions int64 }

// BackupSumOf returns the number of versions and sessions of a user.
func BackupSumOf(r *store.Read, user store.UserNum) (BackupSum, error) {
	return store.QueryOne(r, selectBackupSum, func(row *store.Row) (s BackupSum) {
		row.Scan(&s.Versions, &s.Sessions)
		return s
	}, user)
}
