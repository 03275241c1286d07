// Tables device_keys, one_time_keys, fallback_keys, cross_signing_keys and
// key_signatures.

package keydb

import (
	"errors"
	"time"

	"stoa/internal/store"
)

// ErrKeyTaken says that another client claimed a one-time key in the meantime, or that a
// key with the same ID was added.
var ErrKeyTaken = errors.New("store: one-time key is taken")

// DeviceKeys are the identity keys of a device, as JSON.
type DeviceKeys struct {
	User        store.UserNum
	DeviceID    string
	DisplayName string // "" = none
	Keys        string
}

// OneTimeKey is a one-time or fallback key, as JSON.
type OneTimeKey struct {
	Algorithm string
	KeyID     string // without the algorithm
	Key       string
	Claimed   bool // one-time: given out; fallback: used
}

// KeySignature is a signature that was uploaded after the key.
type KeySignature struct {
	User      store.UserNum // owner of the signed key
	Target    string        // device ID or public key
	Signer    store.UserNum
	SignerKey string // algorithm:id
	Signature string
}

// CrossSigningKey is one of a user's three identity keys, as JSON.
type CrossSigningKey struct {
	User  store.UserNum
	Usage string // master, self_signing or user_signing
	Keys  string
}

var (
	upsertDeviceKeys = store.Prepare(`INSERT INTO device_keys (user_num, device_id, keys) VALUES ($1, $2, $3)
		ON CONFLICT (user_num, device_id) DO UPDATE SET keys = excluded.keys`)
	selectDeviceKeys = store.Prepare(`SELECT k.user_num, k.device_id, COALESCE(d.display_name, ''), k.keys FROM device_keys k
		JOIN devices d ON d.user_num = k.user_num AND d.device_id = k.device_id
		WHERE {{in k.user_num $1}} ORDER BY k.user_num, k.device_id`)
	selectDeviceIDs         = store.Prepare(`SELECT device_id FROM devices WHERE user_num = $1 ORDER BY device_id`)
	deleteDeviceKeys        = store.Prepare(`DELETE FROM device_keys WHERE user_num = $1 AND device_id = $2`)
	deleteDeviceOneTimeKeys = store.Prepare(`DELETE FROM one_time_keys WHERE user_num = $1 AND device_id = $2`)
	deleteDeviceFallback    = store.Prepare(`DELETE FROM fallback_keys WHERE user_num = $1 AND device_id = $2`)
	deleteSignature         = store.Prepare(`DELETE FROM key_signatures WHERE user_num = $1 AND target = $2 AND signer_key = $4
		AND signer_num = (SELECT num FROM users WHERE user_id = $3)`)
	// $2 is a device that is deleted: its key may have signed the master key.
	deleteSignaturesOfDevice = store.Prepare(`DELETE FROM key_signatures WHERE user_num = $1 AND signer_num = $1 AND signer_key = 'ed25519:' || $2`)
	deleteSignaturesOfSigner = store.Prepare(`DELETE FROM key_signatures WHERE user_num = $1 AND target = $2 AND signer_num = $3`)
	deleteTargetSignatures   = store.Prepare(`DELETE FROM key_signatures WHERE user_num = $1 AND target = $2`)

	insertOneTimeKey = store.Prepare(`INSERT INTO one_time_keys (user_num, device_id, algorithm, key_id, key, seq, claimed_ts)
		VALUES ($1, $2, $3, $4, $5, $6, 0) ON CONFLICT (user_num, device_id, algorithm, key_id) DO NOTHING`)
	selectOneTimeKeys = store.Prepare(`SELECT algorithm, key_id, key, CASE WHEN claimed_ts = 0 THEN 0 ELSE 1 END FROM one_time_keys
		WHERE user_num = $1 AND device_id = $2 AND {{intext key_id $3}}`)
	countOneTimeKeys = store.Prepare(`SELECT algorithm, COUNT(*) FROM one_time_keys
		WHERE user_num = $1 AND device_id = $2 AND claimed_ts = 0 GROUP BY algorithm ORDER BY algorithm`)
	lastOneTimeSeq = store.Prepare(`SELECT COALESCE(MAX(seq), 0) FROM one_time_keys WHERE user_num = $1 AND device_id = $2`)
	nextOneTimeKey = store.Prepare(`SELECT algorithm, key_id, key, 0 FROM one_time_keys
		WHERE user_num = $1 AND device_id = $2 AND algorithm = $3 AND claimed_ts = 0
		AND EXISTS (SELECT 1 FROM devices d WHERE d.user_num = $1 AND d.device_id = $2) ORDER BY seq, key_id LIMIT 1`)
	claimOneTimeKey = store.Prepare(`UPDATE one_time_keys SET claimed_ts = $5
		WHERE user_num = $1 AND device_id = $2 AND algorithm = $3 AND key_id = $4 AND claimed_ts = 0`)
	deleteClaimedKeys = store.Prepare(`DELETE FROM one_time_keys WHERE claimed_ts > 0 AND claimed_ts < $1`)

	upsertFallbackKey = store.Prepare(`INSERT INTO fallback_keys (user_num, device_id, algorithm, key_id, key, used) VALUES ($1, $2, $3, $4, $5, 0)
		ON CONFLICT (user_num, device_id, algorithm) DO UPDATE SET key_id = excluded.key_id, key = excluded.key, used = 0`)
	selectFallbackKeys = store.Prepare(`SELECT algorithm, key_id, key, used FROM fallback_keys WHERE user_num = $1 AND device_id = $2
		AND EXISTS (SELECT 1 FROM devices d WHERE d.user_num = $1 AND d.device_id = $2) ORDER BY algorithm`)
	useFallbackKey = store.Prepare(`UPDATE fallback_keys SET used = 1 WHERE user_num = $1 AND device_id = $2 AND algorithm = $3 AND key_id = $4`)

	upsertCrossSigningKey = store.Prepare(`INSERT INTO cross_signing_keys (user_num, usage, keys) VALUES ($1, $2, $3)
		ON CONFLICT (user_num, usage) DO UPDATE SET keys = excluded.keys`)
	selectCrossSigningKeys = store.Prepare(`SELECT user_num, usage, keys FROM cross_signing_keys WHERE {{in user_num $1}} ORDER BY user_num, usage`)

	upsertKeySignature = store.Prepare(`INSERT INTO key_signatures (user_num, target, signer_num, signer_key, signature) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_num, target, signer_num, signer_key) DO UPDATE SET signature = excluded.signature`)
	selectKeySignatures = store.Prepare(`SELECT user_num, target, signer_num, signer_key, signature FROM key_signatures
		WHERE {{in user_num $1}} AND (signer_num = user_num OR signer_num = $2) ORDER BY user_num, target`)
)

// Functions below that write for a device must not do so after its deletion: the caller
// adds the user's head, read while the device existed, or the statement itself checks for
// the device (to_device).

// deviceKeyTables delete the keys of a device: one line for each table. $1 = user number,
// $2 = device ID.
var deviceKeyTables = []*store.Stmt{
	deleteDeviceKeys,
	deleteDeviceOneTimeKeys,
	deleteDeviceFallback,
	deleteTargetSignatures,
	deleteSignaturesOfDevice,
	deleteDeviceMessages,
}

// userKeyTables delete the keys of a deactivated account. $1 = user number.
var userKeyTables = []*store.Stmt{
	store.Prepare(`DELETE FROM device_keys WHERE user_num = $1`),
	store.Prepare(`DELETE FROM one_time_keys WHERE user_num = $1`),
	store.Prepare(`DELETE FROM fallback_keys WHERE user_num = $1`),
	store.Prepare(`DELETE FROM cross_signing_keys WHERE user_num = $1`),
	store.Prepare(`DELETE FROM key_signatures WHERE user_num = $1`),
	store.Prepare(`DELETE FROM key_backup_sessions WHERE user_num = $1`),
	store.Prepare(`DELETE FROM to_device WHERE user_num = $1`),
	store.Prepare(`UPDATE key_backups SET deleted = 1, auth_data = '{}', sessions = 0 WHERE user_num = $1`),
}

// DeleteKeysOfDevice deletes the keys of a device, the signatures on them, and its queued
// messages. It is part of deleting the device.
func DeleteKeysOfDevice(c *store.Change, user store.UserNum, deviceID string) {
	for _, s := range deviceKeyTables {
		c.Exec(s, user, deviceID)
	}
}

// DeleteKeysOfUser deletes all keys, key backups and queued messages of a deactivated
// account.
func DeleteKeysOfUser(c *store.Change, user store.UserNum) {
	for _, s := range userKeyTables {
		c.Exec(s, user)
	}
}

// PutDeviceKeys writes a device's identity keys and wakes the users who share a room with
// the user.
func PutDeviceKeys(c *store.Change, user store.UserNum, deviceID, keys string) {
	c.Exec(upsertDeviceKeys, user, deviceID, keys)
	c.UserSlot(user, store.KindDeviceList)
}

// DeviceIDs returns the devices of a user, with and without keys.
func DeviceIDs(r *store.Read, user store.UserNum) ([]string, error) {
	return store.Query(r, selectDeviceIDs, (*store.Row).Text, user)
}

// DeviceKeysOf returns the identity keys of all devices of the users.
func DeviceKeysOf(r *store.Read, users []store.UserNum) ([]DeviceKeys, error) {
	return store.Query(r, selectDeviceKeys, func(row *store.Row) (k DeviceKeys) {
		row.Scan(&k.User, &k.DeviceID, &k.DisplayName, &k.Keys)
		return k
	}, users)
}

// AddOneTimeKey adds a key; the change fails with ErrKeyTaken if it exists. seq orders
// the keys of a device.
func AddOneTimeKey(c *store.Change, user store.UserNum, deviceID string, key OneTimeKey, seq int64) {
	c.ExecOne(insertOneTimeKey, ErrKeyTaken, user, deviceID, key.Algorithm, key.KeyID, key.Key, seq)
}

// NoteKeyCounts wakes the user's devices, because key counts have changed.
func NoteKeyCounts(c *store.Change, user store.UserNum) { c.UserSlot(user, store.KindKeys) }

// ClaimOneTimeKey claims a key; the change fails with ErrKeyTaken if it was claimed
// already.
func ClaimOneTimeKey(c *store.Change, user store.UserNum, deviceID string, key OneTimeKey, at time.Time) {
	c.ExecOne(claimOneTimeKey, ErrKeyTaken, user, deviceID, key.Algorithm, key.KeyID, at.UnixMilli())
}

// PutFallbackKey replaces the device's fallback key of the algorithm.
func PutFallbackKey(c *store.Change, user store.UserNum, deviceID string, key OneTimeKey) {
	c.Exec(upsertFallbackKey, user, deviceID, key.Algorithm, key.KeyID, key.Key)
}

// UseFallbackKey records that a fallback key was given out. The change fails with
// ErrKeyTaken if it was replaced or deleted in the meantime.
func UseFallbackKey(c *store.Change, user store.UserNum, deviceID string, key OneTimeKey) {
	c.ExecOne(useFallbackKey, ErrKeyTaken, user, deviceID, key.Algorithm, key.KeyID)
}

func scanOneTimeKey(row *store.Row) (k OneTimeKey) {
	k.Algorithm, k.KeyID, k.Key, k.Claimed = row.Text(), row.Text(), row.Text(), row.Int() != 0
	return k
}

// OneTimeKeys returns the existing keys with these IDs, claimed or not.
func OneTimeKeys(r *store.Read, user store.UserNum, deviceID string, keyIDs []string) ([]OneTimeKey, error) {
	return store.Query(r, selectOneTimeKeys, scanOneTimeKey, user, deviceID, keyIDs)
}

// KeyCount is the number of unclaimed one-time keys of a device for an algorithm.
type KeyCount struct {
	Algorithm string
	Count     int64
}

// OneTimeKeyCounts returns the counts of all algorithms with unclaimed keys.
func OneTimeKeyCounts(r *store.Read, user store.UserNum, deviceID string) ([]KeyCount, error) {
	return store.Query(r, countOneTimeKeys, func(row *store.Row) KeyCount { return KeyCount{row.Text(), row.Int()} }, user, deviceID)
}

// LastOneTimeKeySeq is the greatest seq of the device's keys, 0 if it has none.
func LastOneTimeKeySeq(r *store.Read, user store.UserNum, deviceID string) (int64, error) {
	return store.QueryOne(r, lastOneTimeSeq, (*store.Row).Int, user, deviceID)
}

// NextOneTimeKey is the key to give out next; ErrNotFound if there is none.
func NextOneTimeKey(r *store.Read, user store.UserNum, deviceID, algorithm string) (OneTimeKey, error) {
	return store.QueryOne(r, nextOneTimeKey, scanOneTimeKey, user, deviceID, algorithm)
}

// FallbackKeys returns the device's fallback keys, at most one for each algorithm.
func FallbackKeys(r *store.Read, user store.UserNum, deviceID string) ([]OneTimeKey, error) {
	return store.Query(r, selectFallbackKeys, scanOneTimeKey, user, deviceID)
}

// DeleteClaimedKeys deletes keys that were claimed before a time.
func DeleteClaimedKeys(tx *store.Tx, before time.Time) (int64, error) {
	return tx.Exec(deleteClaimedKeys, before.UnixMilli())
}

// PutCrossSigningKey writes one of the user's identity keys and wakes the users who share
// a room with the user.
func PutCrossSigningKey(c *store.Change, k CrossSigningKey) {
	c.Exec(upsertCrossSigningKey, k.User, k.Usage, k.Keys)
	c.UserSlot(k.User, store.KindDeviceList)
}

// ReplaceKeySignature is PutKeySignature for a signature that replaces all others by the
// same user on the key: the user's cross-signing key was another one then.
func ReplaceKeySignature(c *store.Change, k KeySignature) {
	c.Exec(deleteSignaturesOfSigner, k.User, k.Target, k.Signer)
	PutKeySignature(c, k)
}

// DropSignatures removes the signatures on a key that is replaced.
func DropSignatures(c *store.Change, user store.UserNum, target string) {
	c.Exec(deleteTargetSignatures, user, target)
}

// DropSignature removes one signature on a key.
func DropSignature(c *store.Change, user store.UserNum, target, signer, signerKey string) {
	c.Exec(deleteSignature, user, target, signer, signerKey)
}

// CrossSigningKeys returns the identity keys of the users.
func CrossSigningKeys(r *store.Read, users []store.UserNum) ([]CrossSigningKey, error) {
	return store.Query(r, selectCrossSigningKeys, func(row *store.Row) (k CrossSigningKey) {
		row.Scan(&k.User, &k.Usage, &k.Keys)
		return k
	}, users)
}

// PutKeySignature writes a signature and wakes the users who share a room with the owner
// of the signed key.
func PutKeySignature(c *store.Change, k KeySignature) {
	c.Exec(upsertKeySignature, k.User, k.Target, k.Signer, k.SignerKey, k.Signature)
	c.UserSlot(k.User, store.KindDeviceList)
}

// KeySignatures returns the signatures on keys of the users that the viewer may see: the
// users' own and the viewer's.
func KeySignatures(r *store.Read, users []store.UserNum, viewer store.UserNum) ([]KeySignature, error) {
	return store.Query(r, selectKeySignatures, func(row *store.Row) (k KeySignature) {
		row.Scan(&k.User, &k.Target, &k.Signer, &k.SignerKey, &k.Signature)
		return k
	}, users, viewer)
}
