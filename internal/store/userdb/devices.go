// Table devices, and what is deleted with a device or an account. Written by
// packages account and auth.

package userdb

import (
	"stoa/internal/store"
	"stoa/internal/store/keydb"
)

// Device is a client of a local user.
type Device struct {
	ID          string
	DisplayName *string // nil = none
	CreatedTS   int64   // ms since 1970
	SeenTS      int64   // about when it was last used; 0 = not yet
	SeenIP      string  // from where; empty = unknown
}

var (
	selectDevices = store.Prepare(`SELECT device_id, display_name, created_ts, seen_ts, seen_ip FROM devices
		WHERE user_num = $1 ORDER BY device_id LIMIT $2`)
	selectDevice = store.Prepare(`SELECT device_id, display_name, created_ts, seen_ts, seen_ip FROM devices
		WHERE user_num = $1 AND device_id = $2`)
	countDevices = store.Prepare(`SELECT COUNT(*) FROM devices WHERE user_num = $1`)

	upsertDevice = store.Prepare(`INSERT INTO devices (user_num, device_id, display_name, created_ts, seen_ts, seen_ip, generation)
		VALUES ($1, $2, $3, $4, $4, $5, 0)
		ON CONFLICT (user_num, device_id) DO UPDATE SET seen_ts = excluded.seen_ts, seen_ip = excluded.seen_ip, generation = 0`)
	updateDeviceName = store.Prepare(`UPDATE devices SET display_name = $3 WHERE user_num = $1 AND device_id = $2`)
	updateDeviceSeen = store.Prepare(`UPDATE devices SET seen_ts = $3, seen_ip = $4 WHERE user_num = $1 AND device_id = $2 AND seen_ts < $3`)
)

func scanDevice(row *store.Row) (d Device) {
	row.Scan(&d.ID, &d.DisplayName, &d.CreatedTS, &d.SeenTS, &d.SeenIP)
	return d
}

// Devices returns the devices of a user by ID.
func Devices(r *store.Read, user store.UserNum, limit int) ([]Device, error) {
	return store.Query(r, selectDevices, scanDevice, user, limit)
}

// DeviceByID returns one device, or ErrNotFound.
func DeviceByID(r *store.Read, user store.UserNum, deviceID string) (Device, error) {
	return store.QueryOne(r, selectDevice, scanDevice, user, deviceID)
}

// CountDevices returns how many devices a user has.
func CountDevices(r *store.Read, user store.UserNum) (int64, error) {
	return store.QueryOne(r, countDevices, (*store.Row).Int, user)
}

// PutDevice makes a device, or takes an existing one over: its tokens are
// deleted, its name and keys stay. The caller names the user's head in the same
// change.
func PutDevice(c *store.Change, user store.UserNum, d Device) {
	c.Exec(deleteAccessTokensOfDevice, user, d.ID)
	c.Exec(deleteRefreshTokensOfDevice, user, d.ID)
	noteSessions(c, user)
	c.Exec(upsertDevice, user, d.ID, d.DisplayName, d.CreatedTS, d.SeenIP)
}

// SetDeviceName renames a device, else the change fails with ErrNotFound.
// Others see the name with the device's keys: see NoteDeviceList.
func SetDeviceName(c *store.Change, user store.UserNum, deviceID string, name *string) {
	c.ExecOne(updateDeviceName, store.ErrNotFound, user, deviceID, name)
}

// SawDevice notes when and from where a device was used.
func SawDevice(c *store.Change, user store.UserNum, deviceID string, ts int64, ip string) {
	c.Exec(updateDeviceSeen, user, deviceID, ts, ip)
}

// deviceBelongings are deleted with a device, beside its keys: one line for each
// table whose rows hang on one. $1 = user number, $2 = device ID.
var deviceBelongings = []*store.Stmt{
	deleteAccessTokensOfDevice,
	deleteRefreshTokensOfDevice,
}

var deleteDevice = store.Prepare(`DELETE FROM devices WHERE user_num = $1 AND device_id = $2`)

// userBelongings are deleted, beside the keys, when an account is deactivated. $1 = user number.
var userBelongings = []*store.Stmt{
	store.Prepare(`DELETE FROM access_tokens WHERE user_num = $1`),
	store.Prepare(`DELETE FROM refresh_tokens WHERE user_num = $1`),
	store.Prepare(`DELETE FROM login_tokens WHERE user_num = $1`),
	store.Prepare(`DELETE FROM account_data WHERE user_num = $1`),
	store.Prepare(`DELETE FROM filters WHERE user_num = $1`),
	store.Prepare(`DELETE FROM presence WHERE user_num = $1`),
	store.Prepare(`DELETE FROM devices WHERE user_num = $1`),
}

// DeleteDevice deletes a device with all that hangs on it. The caller names the
// user's head in the same change, so that nothing is hung on it meanwhile, and
// adds NoteDeviceList if others have seen its keys.
func DeleteDevice(c *store.Change, user store.UserNum, deviceID string) {
	for _, s := range deviceBelongings {
		c.Exec(s, user, deviceID)
	}
	keydb.DeleteKeysOfDevice(c, user, deviceID)
	c.Exec(deleteDevice, user, deviceID)
	noteSessions(c, user)
}

// DeleteBelongings deletes what hangs on an account that is deactivated: tokens,
// devices, keys, push rules and other account data.
func DeleteBelongings(c *store.Change, user store.UserNum) {
	for _, s := range userBelongings {
		c.Exec(s, user)
	}
	keydb.DeleteKeysOfUser(c, user)
	NoteDeviceList(c, user)
}

// NoteDeviceList tells those who follow the user's devices that they changed:
// one that has keys was renamed or deleted, or keys were.
func NoteDeviceList(c *store.Change, user store.UserNum) { c.UserSlot(user, store.KindDeviceList) }
