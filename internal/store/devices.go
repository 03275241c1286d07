package store

// Devices of local users, and what is deleted with a device or an account.
// Devices are written by packages account and auth.

// Device is a client of a local user.
type Device struct {
	ID          string
	DisplayName *string // nil = none
	CreatedTS   int64   // ms since 1970
	SeenTS      int64   // about when it was last used; 0 = not yet
	SeenIP      string  // from where; empty = unknown
}

var (
	selectDevices = Prepare(`SELECT device_id, display_name, created_ts, seen_ts, seen_ip FROM devices
		WHERE user_num = $1 ORDER BY device_id LIMIT $2`)
	selectDevice = Prepare(`SELECT device_id, display_name, created_ts, seen_ts, seen_ip FROM devices
		WHERE user_num = $1 AND device_id = $2`)
	countDevices = Prepare(`SELECT COUNT(*) FROM devices WHERE user_num = $1`)

	upsertDevice = Prepare(`INSERT INTO devices (user_num, device_id, display_name, created_ts, seen_ts, seen_ip, generation)
		VALUES ($1, $2, $3, $4, $4, $5, 0)
		ON CONFLICT (user_num, device_id) DO UPDATE SET seen_ts = excluded.seen_ts, seen_ip = excluded.seen_ip, generation = 0`)
	updateDeviceName = Prepare(`UPDATE devices SET display_name = $3 WHERE user_num = $1 AND device_id = $2`)
	updateDeviceSeen = Prepare(`UPDATE devices SET seen_ts = $3, seen_ip = $4 WHERE user_num = $1 AND device_id = $2 AND seen_ts < $3`)
)

func scanDevice(row *Row) (d Device) {
	row.Scan(&d.ID, &d.DisplayName, &d.CreatedTS, &d.SeenTS, &d.SeenIP)
	return d
}

// Devices returns the devices of a user by ID.
func (r *Read) Devices(user UserNum, limit int) ([]Device, error) {
	return Query(r, selectDevices, scanDevice, user, limit)
}

// Device returns one device, or ErrNotFound.
func (r *Read) Device(user UserNum, deviceID string) (Device, error) {
	return QueryOne(r, selectDevice, scanDevice, user, deviceID)
}

// CountDevices returns how many devices a user has.
func (r *Read) CountDevices(user UserNum) (int64, error) {
	return QueryOne(r, countDevices, (*Row).Int, user)
}

// PutDevice makes a device, or takes an existing one over: its tokens are
// deleted, its name and keys stay.
func (c *Change) PutDevice(user UserNum, d Device) {
	c.Exec(deleteAccessTokensOfDevice, user, d.ID)
	c.Exec(deleteRefreshTokensOfDevice, user, d.ID)
	c.noteSessions(user)
	c.Exec(upsertDevice, user, d.ID, d.DisplayName, d.CreatedTS, d.SeenIP)
}

// SetDeviceName renames a device, else the change fails with ErrNotFound.
// Others see the name with the device's keys: see NoteDeviceList.
func (c *Change) SetDeviceName(user UserNum, deviceID string, name *string) {
	c.ExecOne(updateDeviceName, ErrNotFound, user, deviceID, name)
}

// SawDevice notes when and from where a device was used.
func (c *Change) SawDevice(user UserNum, deviceID string, ts int64, ip string) {
	c.Exec(updateDeviceSeen, user, deviceID, ts, ip)
}

// deviceBelongings are deleted with a device, beside its keys: one line for each
// table whose rows hang on one. $1 = user number, $2 = device ID.
var deviceBelongings = []*Stmt{
	deleteAccessTokensOfDevice,
	deleteRefreshTokensOfDevice,
}

var deleteDevice = Prepare(`DELETE FROM devices WHERE user_num = $1 AND device_id = $2`)

// userBelongings are deleted, beside the keys, when an account is deactivated. $1 = user number.
var userBelongings = []*Stmt{
	Prepare(`DELETE FROM access_tokens WHERE user_num = $1`),
	Prepare(`DELETE FROM refresh_tokens WHERE user_num = $1`),
	Prepare(`DELETE FROM login_tokens WHERE user_num = $1`),
	Prepare(`DELETE FROM account_data WHERE user_num = $1`),
	Prepare(`DELETE FROM filters WHERE user_num = $1`),
	Prepare(`DELETE FROM presence WHERE user_num = $1`),
	Prepare(`DELETE FROM devices WHERE user_num = $1`),
}

// DeleteDevice deletes a device with all that hangs on it. The caller names the
// user's head in the same change, so that nothing is hung on it meanwhile, and
// adds NoteDeviceList if others have seen its keys.
func (c *Change) DeleteDevice(user UserNum, deviceID string) {
	for _, s := range deviceBelongings {
		c.Exec(s, user, deviceID)
	}
	c.DeleteKeysOfDevice(user, deviceID)
	c.Exec(deleteDevice, user, deviceID)
	c.noteSessions(user)
}

// DeleteBelongings deletes what hangs on an account that is deactivated: tokens,
// devices, keys, push rules and other account data.
func (c *Change) DeleteBelongings(user UserNum) {
	for _, s := range userBelongings {
		c.Exec(s, user)
	}
	c.DeleteKeysOfUser(user)
	c.NoteDeviceList(user)
}

// NoteDeviceList tells those who follow the user's devices that they changed:
// one that has keys was renamed or deleted, or keys were.
func (c *Change) NoteDeviceList(user UserNum) { c.UserSlot(user, KindDeviceList) }
