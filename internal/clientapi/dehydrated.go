package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/e2ee"
	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// dehydratedPath is the unstable path of dehydrated devices (MSC3814), the only one that clients use.
const dehydratedPath = "/org.matrix.msc3814.v1/dehydrated_device"

// dehydratedPage is how many messages are in an answer unless the client asks for another number.
const dehydratedPage = 100

type dehydratedID struct {
	DeviceID string `json:"device_id"`
}

// putDehydrated serves PUT /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device.
func (a *API) putDehydrated(r *http.Request) (dehydratedID, error) {
	var body e2ee.DehydratedUpload
	device, err := a.readAsDevice(r, &body)
	if err != nil {
		return dehydratedID{}, err
	}
	deviceID, err := a.keys.PutDehydrated(r.Context(), device, body)
	return dehydratedID{deviceID.String()}, err
}

// dehydrated serves GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device.
func (a *API) dehydrated(r *http.Request) (e2ee.DehydratedDevice, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return e2ee.DehydratedDevice{}, err
	}
	return a.keys.Dehydrated(r.Context(), caller.UserNum)
}

// deleteDehydrated serves DELETE /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device.
func (a *API) deleteDehydrated(r *http.Request) (dehydratedID, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return dehydratedID{}, err
	}
	deviceID, err := a.keys.DeleteDehydrated(r.Context(), caller.Device)
	return dehydratedID{deviceID}, err
}

type dehydratedEvents struct {
	Events    []json.RawMessage `json:"events"`
	NextBatch string            `json:"next_batch,omitempty"`
}

// dehydratedEvents serves GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{deviceId}/events, of newer
// clients: the last page has no next_batch.
func (a *API) dehydratedEvents(r *http.Request) (dehydratedEvents, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return dehydratedEvents{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return dehydratedEvents{}, err
	}
	out, more, err := a.pageOfDehydrated(r, caller.Device, query.Get("from"))
	if !more {
		out.NextBatch = ""
	}
	return out, err
}

// postDehydratedEvents serves POST /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{deviceId}/events, of
// older clients: there is always a next_batch, and an answer without events is the last one.
func (a *API) postDehydratedEvents(r *http.Request) (dehydratedEvents, error) {
	var body struct {
		NextBatch string `json:"next_batch"`
	}
	caller, err := a.auth.Caller(r)
	if err != nil {
		return dehydratedEvents{}, err
	}
	if err := httpkit.ReadOptionalJSON(r, &body); err != nil {
		return dehydratedEvents{}, err
	}
	out, _, err := a.pageOfDehydrated(r, caller.Device, body.NextBatch)
	return out, err
}

// pageOfDehydrated gives the messages to the dehydrated device of the path after a token, and whether there are more.
func (a *API) pageOfDehydrated(r *http.Request, device who.Device, from string) (dehydratedEvents, bool, error) {
	none := dehydratedEvents{Events: []json.RawMessage{}}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return none, false, err
	}
	limit, err := query.Limit("limit", dehydratedPage, maxPageSize)
	if err != nil {
		return none, false, err
	}
	var after token.Queue
	if from != "" {
		if after, err = token.ParseQueue(from); err != nil {
			return none, false, mxerr.InvalidParam("The token is not one of this server").Because(err)
		}
	}
	if device.DeviceID, err = id.ParseDeviceID(r.PathValue("deviceId")); err != nil {
		return none, false, mxerr.Forbidden("This is not your dehydrated device").Because(err)
	}
	messages, upTo, more, err := a.keys.DehydratedEvents(r.Context(), device, store.Slot(after.Slot), limit)
	return dehydratedEvents{Events: append(none.Events, messages...), NextBatch: token.Queue{Slot: int64(upTo)}.String()}, more, err
}
