package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/store/roomdb"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// maxToDevice bounds the messages of one request; clients send a room's
	// keys in batches of 20 to 250.
	maxToDevice = 10_000
	// maxToDeviceBytes bounds one message: as large as an event.
	maxToDeviceBytes = 65_536
	// maxToDeviceSum bounds what one request adds to all queues, in bytes: "*" multiplies a message by the devices of a user.
	maxToDeviceSum = 16 << 20
	// maxQueue and maxQueueBytes bound the messages that wait for one device. A device that was away for months has a few
	// thousand. What comes after is not kept: nobody can push out what others have sent before.
	maxQueue      = 10_000
	maxQueueBytes = 16 << 20
	// toDevicePage is when the messages of one answer end, in bytes.
	toDevicePage = 1 << 20
)

// SendToDevice queues messages for devices of this server's users; messages is
// content by device (or "*" for all of them) by user. Devices that don't exist
// are passed over. Repeated with the same transaction ID it does nothing.
//
// Spec: client-server-api#send-to-device-messaging
func (k *Keys) SendToDevice(ctx context.Context, from who.Device, eventType, txnID string, messages map[string]Object) error {
	plan, err := k.toDevicePlan(from, eventType, messages)
	if err != nil {
		return err
	}
	userIDs := slices.Sorted(maps.Keys(plan))
	err = k.retry(ctx, "send to devices", func(r *store.Read) (*store.Change, error) {
		return k.toDeviceChange(r, from, eventType, txnID, userIDs, plan)
	})
	if errors.Is(err, roomdb.ErrTxnTaken) {
		return nil // sent before
	}
	return err
}

// toDevicePlan checks the request and renders each message once.
func (k *Keys) toDevicePlan(from who.Device, eventType string, messages map[string]Object) (map[string]map[string]string, error) {
	plan := map[string]map[string]string{}
	count := 0
	for name, devices := range messages {
		user, err := id.ParseUserID(name)
		if err != nil {
			return nil, mxerr.InvalidParam("%q is not a user ID", name).Because(err)
		}
		if count += len(devices); count > maxToDevice {
			return nil, mxerr.TooLarge("More than %d messages in one request", maxToDevice)
		}
		for deviceID, content := range devices {
			if !canonicaljson.IsObject(content) {
				return nil, mxerr.BadJSON("The message for %s %s is not an object", name, deviceID)
			}
			if len(content) > maxToDeviceBytes {
				return nil, mxerr.TooLarge("The message for %s %s has more than %d bytes", name, deviceID, maxToDeviceBytes)
			}
			if !k.isLocal(user) {
				continue
			}
			if plan[name] == nil {
				plan[name] = map[string]string{}
			}
			plan[name][deviceID] = toDeviceMessage(from.UserID, eventType, content)
		}
	}
	return plan, nil
}

func toDeviceMessage(sender id.UserID, eventType string, content json.RawMessage) string {
	m := append(make([]byte, 0, len(content)+128), `{"content":`...)
	m = append(m, content...)
	m = append(m, `,"sender":`...)
	m = canonicaljson.AppendString(m, sender.String())
	m = append(m, `,"type":`...)
	m = canonicaljson.AppendString(m, eventType)
	return string(append(m, '}'))
}

func (k *Keys) toDeviceChange(r *store.Read, from who.Device, eventType, txnID string, userIDs []string, plan map[string]map[string]string) (*store.Change, error) {
	c := store.NewChange()
	roomdb.AddTxn(c, roomdb.Txn{User: from.UserNum, Device: string(from.DeviceID), Path: "sendToDevice/" + eventType, ID: txnID, At: k.clock().UnixMilli()})
	sum := 0
	for _, name := range userIDs {
		user, err := k.store.UserNum(r, name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		devices, err := keydb.DeviceIDs(r, user)
		if err != nil {
			return nil, err
		}
		for _, deviceID := range devices {
			message, ok := plan[name][deviceID]
			if !ok {
				message, ok = plan[name]["*"]
			}
			if !ok {
				continue
			}
			if sum += len(message); sum > maxToDeviceSum {
				return nil, mxerr.TooLarge("The messages to all devices have more than %d bytes together", maxToDeviceSum)
			}
			fits, err := k.queues.admit(r, user, deviceID)
			if err != nil {
				return nil, err
			}
			if fits {
				keydb.AddToDevice(c, user, deviceID, message)
			}
		}
	}
	return c, nil
}

// ToDevice returns up to limit messages for a device after a slot, the slot up to
// which they go (after itself if there are none), and whether more wait. Asked
// again with the same slot it gives the same messages again.
func (k *Keys) ToDevice(r *store.Read, d who.Device, after store.Slot, limit int) ([]json.RawMessage, store.Slot, bool, error) {
	rows, err := keydb.ToDeviceAfter(r, d.UserNum, string(d.DeviceID), after, limit+1)
	if err != nil {
		return nil, after, false, fmt.Errorf("read messages to %s %s: %w", d.UserID, d.DeviceID, err)
	}
	more := len(rows) > limit
	rows = rows[:min(len(rows), limit)]
	var messages []json.RawMessage
	bytes := 0
	for i, row := range rows {
		if bytes += len(row.Message); i > 0 && bytes > toDevicePage {
			return messages, after, true, nil
		}
		messages = append(messages, json.RawMessage(row.Message))
		after = row.Slot
	}
	return messages, after, more, nil
}

// Acknowledge deletes the messages up to a slot: the device has come back with
// a token that covers them. Only a slot that was not acknowledged before through
// this instance costs a write.
func (k *Keys) Acknowledge(ctx context.Context, d who.Device, upTo store.Slot) error {
	if upTo == 0 || !k.acknowledged.advance(d, upTo) {
		return nil
	}
	k.queues.forget(deviceKey{d.UserNum, string(d.DeviceID)})
	c := store.NewChange()
	keydb.DeleteToDevice(c, d.UserNum, string(d.DeviceID), upTo)
	if _, err := k.store.Commit(ctx, c); err != nil {
		k.acknowledged.forget(d)
		return fmt.Errorf("delete messages to %s %s: %w", d.UserID, d.DeviceID, err)
	}
	return nil
}

// acknowledged remembers the newest slot that each device has acknowledged. It
// only saves writes: what it has forgotten is deleted once more.
type acknowledged struct {
	mu    sync.Mutex // guards slots; nothing is taken after it
	slots map[deviceKey]store.Slot
}

type deviceKey struct {
	user     store.UserNum
	deviceID string
}

// acknowledgedKept bounds the devices remembered.
const acknowledgedKept = 100_000

func newAcknowledged() acknowledged {
	return acknowledged{slots: map[deviceKey]store.Slot{}}
}

// advance reports whether the slot is newer than what is known.
func (a *acknowledged) advance(d who.Device, slot store.Slot) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := deviceKey{d.UserNum, string(d.DeviceID)}
	if a.slots[key] >= slot {
		return false
	}
	if len(a.slots) >= acknowledgedKept {
		clear(a.slots)
	}
	a.slots[key] = slot
	return true
}

func (a *acknowledged) forget(d who.Device) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.slots, deviceKey{d.UserNum, string(d.DeviceID)})
}
