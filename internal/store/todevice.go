package store

// Table to_device. Written by package e2ee.

// ToDevice is a message that waits for a device.
type ToDevice struct {
	Slot    Slot
	Message string // {"content":…,"sender":…,"type":…}
}

var (
	insertToDevice = Prepare(`INSERT INTO to_device (user_num, device_id, slot, message) VALUES ($1, $2, $3, $4)`)
	selectToDevice = Prepare(`SELECT slot, message FROM to_device
		WHERE user_num = $1 AND device_id = $2 AND slot > $3 ORDER BY slot LIMIT $4`)
	deleteToDevice       = Prepare(`DELETE FROM to_device WHERE user_num = $1 AND device_id = $2 AND slot <= $3`)
	deleteDeviceMessages = Prepare(`DELETE FROM to_device WHERE user_num = $1 AND device_id = $2`)
)

// AddToDevice queues a message for a device.
func (c *Change) AddToDevice(user UserNum, deviceID, message string) {
	c.Exec(insertToDevice, user, deviceID, c.UserSlot(user, KindToDevice), message)
}

// DeleteToDevice deletes the messages that the device has acknowledged: those
// up to and with the slot.
func (c *Change) DeleteToDevice(user UserNum, deviceID string, upTo Slot) {
	c.Exec(deleteToDevice, user, deviceID, upTo)
}

// ToDevice returns the messages for a device after a slot, in order.
func (r *Read) ToDevice(user UserNum, deviceID string, after Slot, limit int) ([]ToDevice, error) {
	return Query(r, selectToDevice, func(row *Row) (m ToDevice) {
		row.Scan(&m.Slot, &m.Message)
		return m
	}, user, deviceID, after, limit)
}
