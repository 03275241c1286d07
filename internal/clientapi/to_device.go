package clientapi

import (
	"net/http"

	"stoa/internal/e2ee"
	"stoa/internal/httpkit"
	"stoa/matrix/mxerr"
)

// sendToDevice serves PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}.
//
// Spec: client-server-api#put_matrixclientv3sendtodeviceeventtypetxnid
func (a *API) sendToDevice(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	var body struct {
		Messages map[string]e2ee.Object `json:"messages"`
	}
	device, err := a.readAsDevice(r, &body)
	if err != nil {
		return none, err
	}
	if body.Messages == nil {
		return none, mxerr.BadJSON("messages is missing")
	}
	evType, err := nameOf(r, "eventType")
	if err != nil {
		return none, err
	}
	txnID, err := nameOf(r, "txnId")
	if err != nil {
		return none, err
	}
	return none, a.keys.SendToDevice(r.Context(), device, evType, txnID, body.Messages)
}
