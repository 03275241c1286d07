package e2ee

import (
	"context"
	"encoding/json"
	"errors"

	"stoa/internal/account"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// maxDehydratedData bounds what is stored of a dehydrated device, in bytes. A device with 500 one-time keys has 46 KiB.
	maxDehydratedData = 64 << 10
	// maxDehydratedEvents bounds the messages of one answer.
	maxDehydratedEvents = 1000
)

// DehydratedUpload is the body of PUT /dehydrated_device.
type DehydratedUpload struct {
	DeviceID    *string         `json:"device_id"`
	Data        json.RawMessage `json:"device_data"`
	InitialName *string         `json:"initial_device_display_name"`
	Upload
}

// DehydratedDevice is a dehydrated device as its owner gets it.
type DehydratedDevice struct {
	DeviceID string          `json:"device_id"`
	Data     json.RawMessage `json:"device_data"`
}

// PutDehydrated stores a dehydrated device of a user in place of an earlier one, which goes with its keys and messages. It
// is a device without a session: others see its keys and send it messages, and the user's list of devices leaves it out. A
// logout on all devices leaves it too, since it is there for users without a session.
//
// The same device again, sent after a lost answer, replaces the data and adds the keys that are not there.
//
// Errors: M_MISSING_PARAM, M_BAD_JSON, M_INVALID_PARAM, M_TOO_LARGE, M_FORBIDDEN (an ID that no new device may have).
func (k *Keys) PutDehydrated(ctx context.Context, d who.Device, up DehydratedUpload) (id.DeviceID, error) {
	target, err := up.check(d)
	if err != nil {
		return "", err
	}
	keys, err := parseUpload(target, up.Upload)
	if err != nil {
		return "", err
	}
	if keys.device == "" {
		return "", mxerr.MissingParam("device_keys is missing")
	}
	return target.DeviceID, k.retry(ctx, "store a dehydrated device", func(r *store.Read) (*store.Change, error) {
		c, err := begin(r, d)
		if err != nil {
			return nil, err
		}
		if err := k.replaceDehydrated(r, c, target, up); err != nil {
			return nil, err
		}
		_, err = addKeys(r, c, target, keys)
		return c, err
	})
}

// check gives the dehydrated device that a body of a user's device is about.
func (up DehydratedUpload) check(d who.Device) (target who.Device, err error) {
	if up.DeviceID == nil {
		return d, mxerr.MissingParam("device_id is missing")
	}
	if d.DeviceID, err = id.ParseDeviceID(*up.DeviceID); err != nil {
		return d, mxerr.InvalidParam("The device ID is not allowed: %s", err).Because(err)
	}
	if len(up.Data) > maxDehydratedData {
		return d, mxerr.TooLarge("device_data has more than %d bytes", maxDehydratedData)
	}
	var shape struct {
		Algorithm *string `json:"algorithm"`
	}
	if len(up.Data) == 0 || string(up.Data) == "null" {
		return d, mxerr.MissingParam("device_data is missing")
	}
	if !canonicaljson.IsObject(up.Data) || json.Unmarshal(up.Data, &shape) != nil || shape.Algorithm == nil {
		return d, mxerr.BadJSON("device_data is not an object with an algorithm")
	}
	if up.InitialName != nil {
		return d, account.CheckDeviceName(*up.InitialName)
	}
	return d, nil
}

// replaceDehydrated adds the device and its data to a change, and the end of an earlier one.
func (k *Keys) replaceDehydrated(r *store.Read, c *store.Change, target who.Device, up DehydratedUpload) error {
	deviceID := target.DeviceID.String()
	switch before, err := userdb.DehydratedDevice(r, target.UserNum); {
	case errors.Is(err, store.ErrNotFound):
		// the first one
	case err != nil:
		return err
	case before.DeviceID == deviceID:
		userdb.SetDehydratedData(c, target.UserNum, userdb.Dehydrated{DeviceID: deviceID, Data: string(up.Data)})
		return nil
	default:
		userdb.DeleteDevice(c, target.UserNum, before.DeviceID)
	}
	switch _, err := userdb.DeviceByID(r, target.UserNum, deviceID); {
	case err == nil:
		return mxerr.InvalidParam("You are logged in on a device with this ID")
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if err := account.CheckDeviceID(r, target.UserNum, deviceID); err != nil {
		return err
	}
	device := userdb.Device{ID: deviceID, CreatedTS: k.clock().UnixMilli()}
	if up.InitialName != nil && *up.InitialName != "" {
		device.DisplayName = up.InitialName
	}
	userdb.AddDehydratedDevice(c, target.UserNum, device, string(up.Data))
	return nil
}

// Dehydrated returns the user's dehydrated device.
//
// Errors: M_NOT_FOUND.
func (k *Keys) Dehydrated(ctx context.Context, user store.UserNum) (out DehydratedDevice, err error) {
	err = k.store.Read(ctx, func(r *store.Read) error {
		found, err := userdb.DehydratedDevice(r, user)
		out = DehydratedDevice{DeviceID: found.DeviceID, Data: json.RawMessage(found.Data)}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = mxerr.NotFound("You have no dehydrated device")
	}
	return out, err
}

// DeleteDehydrated deletes the user's dehydrated device with its keys and messages, and returns its ID.
//
// Errors: M_NOT_FOUND.
func (k *Keys) DeleteDehydrated(ctx context.Context, d who.Device) (deviceID string, err error) {
	err = k.retry(ctx, "delete a dehydrated device", func(r *store.Read) (*store.Change, error) {
		c, err := begin(r, d)
		if err != nil {
			return nil, err
		}
		found, err := userdb.DehydratedDevice(r, d.UserNum)
		if errors.Is(err, store.ErrNotFound) {
			return nil, mxerr.NotFound("You have no dehydrated device")
		}
		if err != nil {
			return nil, err
		}
		deviceID = found.DeviceID
		userdb.DeleteDevice(c, d.UserNum, deviceID)
		userdb.NoteDeviceList(c, d.UserNum)
		return c, nil
	})
	return deviceID, err
}

// DehydratedEvents is [Keys.ToDevice] for the user's dehydrated device. The messages stay until the device is replaced or
// deleted, so that another client can begin anew if one gives up.
//
// Errors: M_FORBIDDEN (the device is not the dehydrated one).
func (k *Keys) DehydratedEvents(ctx context.Context, d who.Device, after store.Slot, limit int) (messages []json.RawMessage, upTo store.Slot, more bool, err error) {
	err = k.store.Read(ctx, func(r *store.Read) error {
		found, err := userdb.DehydratedDevice(r, d.UserNum)
		if errors.Is(err, store.ErrNotFound) || err == nil && found.DeviceID != d.DeviceID.String() {
			return mxerr.Forbidden("This is not your dehydrated device")
		}
		if err == nil {
			messages, upTo, more, err = k.ToDevice(r, d, after, min(limit, maxDehydratedEvents))
		}
		return err
	})
	return messages, upTo, more, err
}
