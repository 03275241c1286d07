package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// MaxDevices bounds the devices of a user.
	MaxDevices = 1000
	// MaxDeviceNameBytes bounds a device's display name.
	MaxDeviceNameBytes = 255
)

// Devices returns all devices of a user.
//
// Spec: client-server-api#device-management
func (a *Accounts) Devices(ctx context.Context, user store.UserNum) ([]userdb.Device, error) {
	var out []userdb.Device
	err := a.store.Read(ctx, func(r *store.Read) (err error) {
		out, err = userdb.Devices(r, user, MaxDevices)
		return err
	})
	return out, err
}

// Device returns one device; M_NOT_FOUND if the user has none with this ID.
func (a *Accounts) Device(ctx context.Context, user store.UserNum, device id.DeviceID) (userdb.Device, error) {
	var out userdb.Device
	err := a.store.Read(ctx, func(r *store.Read) (err error) {
		out, err = userdb.DeviceByID(r, user, device.String())
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = errNoDevice()
	}
	return out, err
}

func errNoDevice() error { return mxerr.NotFound("You have no device with this ID") }

// CheckDeviceName refuses a display name that is too long, or that can't be stored.
func CheckDeviceName(name string) error {
	if strings.Contains(name, "\x00") {
		return mxerr.InvalidParam("A device's display name must not have a NUL")
	}
	if len(name) > MaxDeviceNameBytes {
		return mxerr.InvalidParam("A device's display name must not be longer than %d bytes", MaxDeviceNameBytes)
	}
	return nil
}

// CheckDeviceID refuses a new device whose ID is a cross-signing key of the user, since signatures would be ambiguous, or
// that of the user's dehydrated device, which has no session.
//
// Errors: M_FORBIDDEN.
func CheckDeviceID(r *store.Read, user store.UserNum, deviceID string) error {
	identity, err := keydb.CrossSigningKeys(r, []store.UserNum{user})
	if err != nil {
		return err
	}
	for _, k := range identity {
		var public struct {
			Keys map[string]string `json:"keys"`
		}
		if err := json.Unmarshal([]byte(k.Keys), &public); err != nil {
			return fmt.Errorf("identity keys of user number %d: %w", user, err)
		}
		for _, key := range public.Keys {
			if key == deviceID {
				return mxerr.Forbidden("The device ID is that of a cross-signing key")
			}
		}
	}
	switch dehydrated, err := userdb.DehydratedDevice(r, user); {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case dehydrated.DeviceID == deviceID:
		return mxerr.Forbidden("The device ID is that of your dehydrated device")
	}
	return nil
}

// RenameDevice sets the display name of a device; empty removes it.
func (a *Accounts) RenameDevice(ctx context.Context, user store.UserNum, device id.DeviceID, name string) error {
	if err := CheckDeviceName(name); err != nil {
		return err
	}
	err := a.Change(ctx, user, func(r *store.Read, c *store.Change) error {
		if name == "" {
			userdb.SetDeviceName(c, user, device.String(), nil)
		} else {
			userdb.SetDeviceName(c, user, device.String(), &name)
		}
		return noteIfSeen(r, c, user, device.String())
	})
	if errors.Is(err, store.ErrNotFound) {
		return errNoDevice()
	}
	return err
}

// noteIfSeen announces a change to the users who track the user's devices, if one of the
// devices has keys that they may have seen.
func noteIfSeen(r *store.Read, c *store.Change, user store.UserNum, devices ...string) error {
	known, err := keydb.DeviceKeysOf(r, []store.UserNum{user})
	if err != nil {
		return err
	}
	for _, d := range known {
		if slices.Contains(devices, d.DeviceID) {
			userdb.NoteDeviceList(c, user)
			return nil
		}
	}
	return nil
}

// deleteDevices adds the deletion of some of a user's devices to a change.
func deleteDevices(r *store.Read, c *store.Change, user store.UserNum, which func(deviceID string) bool) error {
	devices, err := userdb.Devices(r, user, MaxDevices)
	if err != nil {
		return err
	}
	var gone []string
	for _, d := range devices {
		if which(d.ID) {
			userdb.DeleteDevice(c, user, d.ID)
			gone = append(gone, d.ID)
		}
	}
	return noteIfSeen(r, c, user, gone...)
}

// DeleteDevices deletes devices with their tokens and keys. It ignores devices that don't
// exist.
func (a *Accounts) DeleteDevices(ctx context.Context, user store.UserNum, allow Allow, devices ...id.DeviceID) error {
	wanted := make(map[string]bool, len(devices))
	for _, d := range devices {
		wanted[d.String()] = true
	}
	return a.deleteWhich(ctx, user, func(r *store.Read, c *store.Change) error {
		if err := allow.apply(r, c); err != nil {
			return err
		}
		return deleteDevices(r, c, user, func(d string) bool { return wanted[d] })
	})
}

// DeleteAllDevices deletes every device of a user, and invalidates login tokens and
// completed interactive authentication.
func (a *Accounts) DeleteAllDevices(ctx context.Context, user store.UserNum) error {
	return a.deleteWhich(ctx, user, func(r *store.Read, c *store.Change) error {
		userdb.EndCredentials(c, user)
		return deleteDevices(r, c, user, func(string) bool { return true })
	})
}

func (a *Accounts) deleteWhich(ctx context.Context, user store.UserNum, build func(*store.Read, *store.Change) error) error {
	if err := a.Change(ctx, user, build); err != nil {
		return fmt.Errorf("delete devices of user number %d: %w", user, err)
	}
	a.drop(user)
	return nil
}
