// Table to_device.

package keydb

import "stoa/internal/store"

// ToDevice is a message in a device's queue.
type ToDevice struct {
	Slot    store.Slot
	Message string // {"content":…,"sender":…,"type":…}
}

var (
	insertToDevice = store.Prepare(`INSERT INTO to_device (user_num, device_id, slot, message)
		SELECT user_num, device_id, $3, $4 FROM devices WHERE user_num = $1 AND device_id = $2`)
	selectToDevice = store.Prepare(`SELECT slot, message FROM to_device
		WHERE user_num = $1 AND device_id = $2 AND slot > $3 ORDER BY slot LIMIT $4`)
	sumToDevice = store.Prepare(`SELECT COUNT(*), COALESCE(SUM(LENGTH(message)), 0) FROM (
		SELECT message FROM to_device WHERE user_num = $1 AND device_id = $2 LIMIT $3) AS q`)
	deleteToDevice       = store.Prepare(`DELETE FROM to_device WHERE user_num = $1 AND device_id = $2 AND slot <= $3`)
	deleteDeviceMessages = store.Prepare(`DELETE FROM to_device WHERE user_num = $1 AND device_id = $2`)
)

// AddToDevice queues a message for a device, if the device exists at the commit.
func AddToDevice(c *store.Change, user store.UserNum, deviceID, message string) {
	c.Exec(insertToDevice, user, deviceID, c.UserSlot(user, store.KindToDevice), message)
}

// DeleteToDevice deletes the messages up to a slot, which the device has acknowledged.
func DeleteToDevice(c *store.Change, user store.UserNum, deviceID string, upTo store.Slot) {
	c.Exec(deleteToDevice, user, deviceID, upTo)
}

// ToDeviceAfter returns the messages for a device after a slot, in order.
func ToDeviceAfter(r *store.Read, user store.UserNum, deviceID string, after store.Slot, limit int) ([]ToDevice, error) {
	return store.Query(r, selectToDevice, func(row *store.Row) (m ToDevice) {
		row.Scan(&m.Slot, &m.Message)
		return m
	}, user, deviceID, after, limit)
}

// QueueSize counts the messages in a device's queue, up to a limit, and their bytes.
func QueueSize(r *store.Read, user store.UserNum, deviceID string, limit int) (count, bytes int64, err error) {
	_, err = store.QueryOne(r, sumToDevice, func(row *store.Row) struct{} {
		row.Scan(&count, &bytes)
		return struct{}{}
	}, user, deviceID, limit)
	return count, bytes, err
}
