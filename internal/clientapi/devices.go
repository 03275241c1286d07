package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/auth"
	"stoa/internal/httpkit"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
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

func showDevice(d userdb.Device) clientDevice {
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
func (a *API) callersDevice(r *http.Request) (who.Caller, id.DeviceID, error) {
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

// deleteDevice serves DELETE /_matrix/client/v3/devices/{deviceId}.
//
// Spec: client-server-api#device-management
func (a *API) deleteDevice(r *http.Request) (httpkit.Empty, error) {
	caller, device, err := a.callersDevice(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	var body struct {
		Auth json.RawMessage `json:"auth"`
	}
	if err := httpkit.ReadOptionalJSON(r, &body); err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, a.deleteAuthenticated(r, caller, body.Auth, device)
}

// deleteDevices serves POST /_matrix/client/v3/delete_devices.
//
// Spec: client-server-api#device-management
func (a *API) deleteDevices(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	var body struct {
		Auth    json.RawMessage `json:"auth"`
		Devices *[]id.DeviceID  `json:"devices"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return httpkit.Empty{}, err
	}
	if body.Devices == nil {
		return httpkit.Empty{}, mxerr.MissingParam("The list of devices is missing")
	}
	return httpkit.Empty{}, a.deleteAuthenticated(r, caller, body.Auth, *body.Devices...)
}

// deleteAuthenticated deletes devices once the caller has proved to be who they
// are, for just these devices.
func (a *API) deleteAuthenticated(r *http.Request, caller who.Caller, given json.RawMessage, devices ...id.DeviceID) error {
	named, err := json.Marshal(devices)
	if err != nil {
		return err
	}
	in := auth.Interaction{Operation: "delete devices " + string(named), Caller: &caller, Flows: auth.PasswordFlows, Auth: given}
	if done, err := a.auth.Answered(r.Context(), in, &httpkit.Empty{}); done || err != nil {
		return err
	}
	proof, err := a.auth.Interact(r, in)
	if err != nil {
		return err
	}
	return auth.Spent(a.accounts.DeleteDevices(r.Context(), caller.UserNum, proof.Allow(httpkit.Empty{}), devices...))
}
