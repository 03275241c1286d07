package clientapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"stoa/internal/auth"
	"stoa/internal/e2ee"
	"stoa/internal/httpkit"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/mxerr"
)

// maxKeysBody bounds bodies with keys: hundreds of keys, or the sessions of a
// batch of a backup, of about 1 KiB each; that of other requests is lower, see routes.go.
const maxKeysBody = 4 << 20

// readAsDevice gives who calls and reads the body into v.
func (a *API) readAsDevice(r *http.Request, v any) (who.Device, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return who.Device{}, err
	}
	return caller.Device, httpkit.ReadJSONLimit(r, v, maxKeysBody)
}

type keyCounts struct {
	OneTimeKeyCounts e2ee.Counts `json:"one_time_key_counts"`
}

// uploadKeys serves POST /_matrix/client/v3/keys/upload.
//
// Spec: client-server-api#uploading-keys
func (a *API) uploadKeys(r *http.Request) (keyCounts, error) {
	var body e2ee.Upload
	device, err := a.readAsDevice(r, &body)
	if err != nil {
		return keyCounts{}, err
	}
	counts, err := a.keys.Upload(r.Context(), device, body)
	return keyCounts{OneTimeKeyCounts: counts}, err
}

// queryKeys serves POST /_matrix/client/v3/keys/query.
//
// Spec: client-server-api#tracking-the-device-list-for-a-user
func (a *API) queryKeys(r *http.Request) (e2ee.Queried, error) {
	var body struct {
		DeviceKeys map[string][]string `json:"device_keys"`
		Timeout    *int64              `json:"timeout"`
	}
	device, err := a.readAsDevice(r, &body)
	if err != nil {
		return e2ee.Queried{}, err
	}
	if body.DeviceKeys == nil {
		return e2ee.Queried{}, mxerr.BadJSON("device_keys is missing")
	}
	return a.keys.Query(r.Context(), device, body.DeviceKeys)
}

// claimKeys serves POST /_matrix/client/v3/keys/claim.
//
// Spec: client-server-api#one-time-and-fallback-keys
func (a *API) claimKeys(r *http.Request) (e2ee.Claimed, error) {
	var body struct {
		OneTimeKeys map[string]map[string]string `json:"one_time_keys"`
		Timeout     *int64                       `json:"timeout"`
	}
	if _, err := a.readAsDevice(r, &body); err != nil {
		return e2ee.Claimed{}, err
	}
	if body.OneTimeKeys == nil {
		return e2ee.Claimed{}, mxerr.BadJSON("one_time_keys is missing")
	}
	return a.keys.Claim(r.Context(), body.OneTimeKeys)
}

// uploadCrossSigning serves POST /_matrix/client/v3/keys/device_signing/upload.
//
// Spec: client-server-api#post_matrixclientv3keysdevice_signingupload
func (a *API) uploadCrossSigning(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, err := a.auth.Caller(r)
	if err != nil {
		return none, err
	}
	var body struct {
		Auth json.RawMessage `json:"auth"`
		e2ee.CrossSigning
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return none, err
	}
	if err := auth.CheckForm(body.Auth); err != nil {
		return none, err
	}
	if err := body.CrossSigning.Check(caller.Device); err != nil {
		return none, err
	}
	err = a.keys.UploadCrossSigning(r.Context(), caller.Device, body.CrossSigning, nil)
	if !errors.Is(err, e2ee.ErrNeedsAuth) {
		return none, err
	}
	proof, err := a.auth.Interact(r, auth.Interaction{Operation: "upload cross-signing keys", Caller: &caller, Flows: auth.PasswordFlows, Auth: body.Auth})
	if err != nil {
		return none, err
	}
	return none, auth.Spent(a.keys.UploadCrossSigning(r.Context(), caller.Device, body.CrossSigning, proof.Allow(none)))
}

type signatureFailures struct {
	Failures e2ee.Failures `json:"failures"`
}

// uploadSignatures serves POST /_matrix/client/v3/keys/signatures/upload.
//
// Spec: client-server-api#post_matrixclientv3keyssignaturesupload
func (a *API) uploadSignatures(r *http.Request) (signatureFailures, error) {
	var body map[string]e2ee.Object
	device, err := a.readAsDevice(r, &body)
	if err != nil {
		return signatureFailures{}, err
	}
	failures, err := a.keys.UploadSignatures(r.Context(), device, body)
	return signatureFailures{Failures: failures}, err
}

type deviceListChanges struct {
	Changed []string `json:"changed"`
	Left    []string `json:"left"`
}

// keyChanges serves GET /_matrix/client/v3/keys/changes.
//
// Spec: client-server-api#get_matrixclientv3keyschanges
func (a *API) keyChanges(r *http.Request) (deviceListChanges, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return deviceListChanges{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return deviceListChanges{}, err
	}
	var from token.Stream
	for _, name := range []string{"to", "from"} { // the last one is kept
		text, err := query.Required(name)
		if err != nil {
			return deviceListChanges{}, err
		}
		if from, err = token.ParseStream(text); err != nil {
			return deviceListChanges{}, mxerr.InvalidParam("%s is not a token of this server", name).Because(err)
		}
	}
	viewer := caller.Device
	changed, left, err := a.syncs.KeyChanges(r.Context(), viewer, from)
	answer := deviceListChanges{Changed: []string{}, Left: []string{}}
	answer.Changed = append(answer.Changed, changed...)
	answer.Left = append(answer.Left, left...)
	return answer, err
}
