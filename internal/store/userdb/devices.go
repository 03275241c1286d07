// Table devices, and what is deleted with a device or an account. Written by
// packages account and auth, and by e2ee for dehydrated devices.

package userdb

import (
	"stoa/internal/store"
	"stoa/internal/store/delayeddb"
	"stoa/internal/store/keydb"
	"stoa/internal/store/pushdb"
	"stoa/internal/store/slidingdb"
)

// Device is a device of a local user.
type Device struct {
	ID          string
	DisplayName *string // nil = none
	CreatedTS   int64   // ms since 1970
	SeenTS      int64   // about when it was last used; 0 = never
	SeenIP      string  // its address then; empty = unknown
}

// withSession keeps dehydrated devices out.
const withSession = ` AND NOT EXISTS (SELECT 1 FROM dehydrated_devices h WHERE h.user_num = devices.user_num AND h.device_id = devices.device_id)`

var (
	selectDevices = store.Prepare(`SELECT device_id, display_name, created_ts, seen_ts, seen_ip FROM devices
		WHERE user_num = $1` + withSession + ` ORDER BY device_id LIMIT $2`)
	selectDevice = store.Prepare(`SELECT device_id, display_name, created_ts, seen_ts, seen_ip FROM devices
		WHERE user_num = $1 AND device_id = $2` + withSession)
	countDevices = store.Prepare(`SELECT COUNT(*) FROM devices WHERE user_num = $1` + withSession)

	upsertDevice = store.Prepare(`INSERT INTO devices (user_num, device_id, display_name, created_ts, seen_ts, seen_ip, generation)
		VALUES ($1, $2, $3, $4, $4, $5, 0)
		ON CONFLICT (user_num, device_id) DO UPDATE SET seen_ts = excluded.seen_ts, seen_ip = excluded.seen_ip, generation = 0`)
	updateDeviceName = store.Prepare(`UPDATE devices SET display_name = $3 WHERE user_num = $1 AND device_id = $2` + withSession)
	updateDeviceSeen = store.Prepare(`UPDATE devices SET seen_ts = $3, seen_ip = $4 WHERE user_num = $1 AND device_id = $2 AND seen_ts < $3`)
)

func scanDevice(row *store.Row) (d Device) {
	row.Scan(&d.ID, &d.DisplayName, &d.CreatedTS, &d.SeenTS, &d.SeenIP)
	return d
}

// Devices returns the devices of a user by ID, without a dehydrated one.
func Devices(r *store.Read, user store.UserNum, limit int) ([]Device, error) {
	return store.Query(r, selectDevices, scanDevice, user, limit)
}

// DeviceByID returns one device that is not dehydrated, or ErrNotFound.
func DeviceByID(r *store.Read, user store.UserNum, deviceID string) (Device, error) {
	return store.QueryOne(r, selectDevice, scanDevice, user, deviceID)
}

// CountDevices returns how many devices a user has, without a dehydrated one.
func CountDevices(r *store.Read, user store.UserNum) (int64, error) {
	return store.QueryOne(r, countDevices, (*store.Row).Int, user)
}

// PutDevice creates a device, or reuses an existing one: its tokens are deleted, its name
// and keys stay. The caller adds the user's head to the same change.
func PutDevice(c *store.Change, user store.UserNum, d Device) {
	c.Exec(deleteAccessTokensOfDevice, user, d.ID)
	c.Exec(deleteRefreshTokensOfDevice, user, d.ID)
	c.Exec(deleteOpenIDTokensOfDevice, user, d.ID)
	noteSessions(c, user)
	c.Exec(upsertDevice, user, d.ID, d.DisplayName, d.CreatedTS, d.SeenIP)
}

// SetDeviceName renames a device; the change fails with ErrNotFound if there is none.
// Other users see the name with the device's keys: see NoteDeviceList.
func SetDeviceName(c *store.Change, user store.UserNum, deviceID string, name *string) {
	c.ExecOne(updateDeviceName, store.ErrNotFound, user, deviceID, name)
}

// SawDevice records the time and address of a device's last use.
func SawDevice(c *store.Change, user store.UserNum, deviceID string, ts int64, ip string) {
	c.Exec(updateDeviceSeen, user, deviceID, ts, ip)
}

// deviceBelongings delete the data of a device, beside its keys and pushers: one line for each table.
// $1 = user number, $2 = device ID.
var deviceBelongings = []*store.Stmt{
	deleteAccessTokensOfDevice,
	deleteRefreshTokensOfDevice,
	deleteOpenIDTokensOfDevice,
	deleteDehydrated,
	store.Prepare(`DELETE FROM account_data WHERE user_num = $1 AND room_id = ''
		AND type IN ('org.matrix.msc3890.local_notification_settings.' || $2, 'm.local_notification_settings.' || $2)`), // MSC3890
}

var deleteDevice = store.Prepare(`DELETE FROM devices WHERE user_num = $1 AND device_id = $2`)

// userBelongings delete the data of a deactivated account, beside keys and pushers. $1 = user
// number.
var userBelongings = []*store.Stmt{
	store.Prepare(`DELETE FROM access_tokens WHERE user_num = $1`),
	store.Prepare(`DELETE FROM refresh_tokens WHERE user_num = $1`),
	store.Prepare(`DELETE FROM login_tokens WHERE user_num = $1`),
	store.Prepare(`DELETE FROM openid_tokens WHERE user_num = $1`),
	store.Prepare(`DELETE FROM account_data WHERE user_num = $1`),
	store.Prepare(`DELETE FROM filters WHERE user_num = $1`),
	store.Prepare(`DELETE FROM presence WHERE user_num = $1`),
	store.Prepare(`DELETE FROM people_words WHERE user_num = $1`),
	store.Prepare(`DELETE FROM dehydrated_devices WHERE user_num = $1`),
	store.Prepare(`DELETE FROM threepids WHERE user_num = $1`),
	store.Prepare(`DELETE FROM devices WHERE user_num = $1`),
}

// DeleteDevice deletes a device with its data. The caller adds the user's head to the
// same change, so that no data is added in the meantime, and NoteDeviceList if other
// users have seen its keys.
func DeleteDevice(c *store.Change, user store.UserNum, deviceID string) {
	for _, s := range deviceBelongings {
		c.Exec(s, user, deviceID)
	}
	keydb.DeleteKeysOfDevice(c, user, deviceID)
	pushdb.DeletePushersOfDevice(c, user, deviceID)
	slidingdb.DeleteOfDevice(c, user, deviceID)
	c.Exec(deleteDevice, user, deviceID)
	noteSessions(c, user)
}

// DeleteBelongings deletes the data of a deactivated account: tokens, devices, keys,
// addresses, pushers, push rules and other account data.
func DeleteBelongings(c *store.Change, user store.UserNum) {
	for _, s := range userBelongings {
		c.Exec(s, user)
	}
	keydb.DeleteKeysOfUser(c, user)
	delayeddb.DeleteOfUser(c, user)
	pushdb.DeletePushersOfUser(c, user)
	slidingdb.DeleteOfUser(c, user)
	NoteDeviceList(c, user)
}

// NoteDeviceList wakes the users who track the user's devices, because a device with keys
// was renamed or deleted, or keys have changed.
func NoteDeviceList(c *store.Change, user store.UserNum) { c.UserSlot(user, store.KindDeviceList) }
