// Table dehydrated_devices. Written by package e2ee.

package userdb

import "stoa/internal/store"

// Dehydrated is what a client stored of a user's dehydrated device.
type Dehydrated struct {
	DeviceID string
	Data     string // JSON
}

var (
	selectDehydrated = store.Prepare(`SELECT device_id, data FROM dehydrated_devices WHERE user_num = $1`)
	upsertDehydrated = store.Prepare(`INSERT INTO dehydrated_devices (user_num, device_id, data) VALUES ($1, $2, $3)
		ON CONFLICT (user_num) DO UPDATE SET device_id = excluded.device_id, data = excluded.data`)
	insertDehydratedDevice = store.Prepare(`INSERT INTO devices (user_num, device_id, display_name, created_ts, seen_ts, seen_ip, generation)
		VALUES ($1, $2, $3, $4, 0, '', 0) ON CONFLICT (user_num, device_id) DO NOTHING`)
	deleteDehydrated = store.Prepare(`DELETE FROM dehydrated_devices WHERE user_num = $1 AND device_id = $2`)
)

// DehydratedDevice returns a user's dehydrated device, or ErrNotFound.
func DehydratedDevice(r *store.Read, user store.UserNum) (Dehydrated, error) {
	return store.QueryOne(r, selectDehydrated, func(row *store.Row) Dehydrated { return Dehydrated{row.Text(), row.Text()} }, user)
}

// AddDehydratedDevice adds a dehydrated device; the change fails with ErrConflict if the user has a device with its ID. The
// caller adds the user's head to the same change, and deletes an earlier dehydrated device with [DeleteDevice].
func AddDehydratedDevice(c *store.Change, user store.UserNum, d Device, data string) {
	c.ExecOne(insertDehydratedDevice, store.ErrConflict, user, d.ID, d.DisplayName, d.CreatedTS)
	c.Exec(upsertDehydrated, user, d.ID, data)
}

// SetDehydratedData replaces what is stored of a user's dehydrated device.
func SetDehydratedData(c *store.Change, user store.UserNum, d Dehydrated) {
	c.Exec(upsertDehydrated, user, d.DeviceID, d.Data)
}
