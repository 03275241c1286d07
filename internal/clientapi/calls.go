package clientapi

import (
	"crypto/hmac"
	"crypto/sha1" // as TURN servers do
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// turnLifetime is that of credentials for a TURN server. A call that is longer goes on: clients renew them.
const turnLifetime = 24 * time.Hour

// turnServer is how to reach the TURN servers, and the credentials for them.
type turnServer struct {
	Username string   `json:"username"`
	Password string   `json:"password"`
	URIs     []string `json:"uris"`
	TTL      int64    `json:"ttl"` // seconds
}

// turnServer serves GET /_matrix/client/v3/voip/turnServer.
//
// Spec: client-server-api#get_matrixclientv3voipturnserver
func (a *API) turnServer(r *http.Request) (out turnServer, err error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return out, err
	}
	if len(a.opt.TURNURIs) == 0 {
		return out, mxerr.NotFound("This server has no TURN server")
	}
	out = turnServer{URIs: a.opt.TURNURIs, TTL: int64(turnLifetime.Seconds())}
	out.Username, out.Password = turnCredentials(a.opt.TURNSecret, caller.UserID, a.opt.Clock().Add(turnLifetime))
	return out, nil
}

// turnCredentials makes the credentials that a TURN server accepts from a user until a time: it knows the secret, and
// computes the password from the user name.
func turnCredentials(secret string, user id.UserID, until time.Time) (username, password string) {
	username = fmt.Sprintf("%d:%s", until.Unix(), user)
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(username))
	return username, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// rtcTransport is a service through which clients in a group call send what they say.
type rtcTransport struct {
	Type       string `json:"type"`
	LiveKitURL string `json:"livekit_service_url"`
}

type rtcTransports struct {
	Transports []rtcTransport `json:"rtc_transports"`
}

func (a *API) transports() []rtcTransport {
	if a.opt.LiveKitURL == "" {
		return []rtcTransport{}
	}
	return []rtcTransport{{"livekit", a.opt.LiveKitURL}}
}

// rtcTransports serves GET /_matrix/client/unstable/org.matrix.msc4143/rtc/transports (MSC4143).
func (a *API) rtcTransports(r *http.Request) (rtcTransports, error) {
	if _, err := a.auth.Caller(r); err != nil {
		return rtcTransports{}, err
	}
	return rtcTransports{a.transports()}, nil
}
