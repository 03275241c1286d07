package clientapi

import (
	"net/http"

	"stoa/internal/auth"
	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// clientDevice is a device as its owner sees it.
type clientDevice struct {
	DeviceID    string  `json:"device_id"`
	DisplayName *string `json:"display_name,omitempty"`
	LastSeenIP  string  `json:"last_seen_ip,omitempty"`
	LastSeenTS  int64   `json:"last_seen_ts,omitempty"`
}

func showDevice(d store.Device) clientDevice {
	return clientDevice{DeviceID: d.ID, DisplayName: d.DisplayName, LastSeenIP: d.SeenIP, LastSeenTS: d.SeenTS}
}

type clientDevices struct {
	Devices []clientDevice `json:"devices"`
}

// devices serves GET /_matrix/client/v3/devices.
//
// Spec: client-server-api#device-management
func (a *API) devices(r *http.Request) (clientDevices, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return clientDevices{}, err
	}
	all, err := a.accounts.Devices(r.Context(), caller.UserNum)
	out := clientDevices{Devices: make([]clientDevice, len(all))}
	for i, d := range all {
		out.Devices[i] = showDevice(d)
	}
	return out, err
}

// callersDevice gives the caller and the device of the path.
func (a *API) callersDevice(r *http.Request) (auth.Caller, id.DeviceID, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return caller, "", err
	}
	device, err := id.ParseDeviceID(r.PathValue("deviceId"))
	if err != nil {
		return caller, "", mxerr.NotFound("You have no device with this ID").Because(err)
	}
	return caller, device, nil
}

// device serves GET /_matrix/client/v3/devices/{deviceId}.
//
// Spec: client-server-api#device-management
func (a *API) device(r *http.Request) (clientDevice, error) {
	caller, device, err := a.callersDevice(r)
	if err != nil {
		return clientDevice{}, err
	}
	d, err := a.accounts.Device(r.Context(), caller.UserNum, device)
	return showDevice(d), err
}

// updateDevice serves PUT /_matrix/client/v3/devices/{deviceId}.
//
// Spec: client-server-api#device-management
func (a *API) updateDevice(r *http.Request) (httpkit.Empty, error) {
	caller, device, err := a.callersDevice(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	var body struct {
		DisplayName *string `json:"display_name"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return httpkit.Empty{}, err
	}
	if body.DisplayName == nil { // unchanged, if it is there
		_, err = a.accounts.Device(r.Context(), caller.UserNum, device)
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, a.accounts.RenameDevice(r.Context(), caller.UserNum, device, *body.DisplayName)
}
