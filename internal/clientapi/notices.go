package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/httpkit"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

type noticeSent struct {
	EventID id.EventID `json:"event_id"`
}

// sendNotice serves POST /_synapse/admin/v1/send_server_notice and
// PUT /_synapse/admin/v1/send_server_notice/{txnId}.
//
// Spec: client-server-api#server-notices
func (a *API) sendNotice(r *http.Request) (noticeSent, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return noticeSent{}, err
	}
	if err := caller.RequireAdmin(); err != nil {
		return noticeSent{}, err
	}
	var body struct {
		UserID   string          `json:"user_id"`
		Type     string          `json:"type"`
		StateKey *string         `json:"state_key"`
		Content  json.RawMessage `json:"content"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return noticeSent{}, err
	}
	user, err := id.ParseUserID(body.UserID)
	if err != nil {
		return noticeSent{}, mxerr.InvalidParam("user_id is not a user ID").Because(err)
	}
	if !canonicaljson.IsObject(body.Content) {
		return noticeSent{}, mxerr.BadJSON("content must be an object")
	}
	eventID, err := a.notices.Send(r.Context(), user, body.Type, body.StateKey, body.Content, r.PathValue("txnId"))
	return noticeSent{eventID}, err
}
