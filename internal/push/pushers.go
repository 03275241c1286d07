package push

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"stoa/internal/account"
	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/pushdb"
	"stoa/internal/who"
	"stoa/matrix/mxerr"
)

// Bounds of what users store.
const (
	// MaxPushers bounds the pushers of a user: a few for each device.
	MaxPushers = 100
	// MaxPushkey bounds a pushkey in bytes, MaxAppID an app ID.
	MaxPushkey = 512
	MaxAppID   = 64
	// MaxText bounds each of the names, the language and the profile tag, in bytes.
	MaxText = 255
	// MaxURL bounds the address of a gateway, MaxData the whole data of a pusher, in bytes.
	MaxURL  = 1024
	MaxData = 8 << 10
)

// KindHTTP is the kind of pusher that sends HTTP requests to a gateway.
const KindHTTP = "http"

// notifyPath is the path of every gateway.
const notifyPath = "/_matrix/push/v1/notify"

// Pusher is where notifications of a user go, as clients see it.
//
// Spec: client-server-api#get_matrixclientv3pushers
type Pusher struct {
	Pushkey string          `json:"pushkey"`
	Kind    string          `json:"kind"`
	AppID   string          `json:"app_id"`
	Data    json.RawMessage `json:"data"`
	Details
	// Enabled and DeviceID are those of MSC3881.
	Enabled  bool   `json:"org.matrix.msc3881.enabled"`
	DeviceID string `json:"org.matrix.msc3881.device_id,omitempty"`
}

// Details is what a person sees of a pusher. They mean nothing to the server.
type Details struct {
	AppDisplayName    string `json:"app_display_name"`
	DeviceDisplayName string `json:"device_display_name"`
	ProfileTag        string `json:"profile_tag,omitempty"`
	Lang              string `json:"lang"`
}

// storedDetails are Details as they are stored.
type storedDetails struct {
	Details
	// Since is the head of the stream when the pusher was created: what happened before is not its business.
	Since store.Position `json:"since"`
}

func parseDetails(text string) (d storedDetails, err error) {
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, fmt.Errorf("details of a pusher: %w", err)
	}
	return d, nil
}

// Pushers returns the pushers of a user, oldest first.
func (p *Push) Pushers(ctx context.Context, user store.UserNum) ([]Pusher, error) {
	var rows []pushdb.Pusher
	err := p.store.Read(ctx, func(r *store.Read) (err error) {
		rows, err = pushdb.Pushers(r, user)
		return err
	})
	list := make([]Pusher, len(rows))
	for i, row := range rows {
		list[i] = Pusher{
			Pushkey: row.Pushkey, Kind: row.Kind, AppID: row.AppID, Data: json.RawMessage(row.Data), Enabled: row.Enabled, DeviceID: row.DeviceID,
		}
		details, err := parseDetails(row.Details)
		if err != nil {
			return nil, err
		}
		list[i].Details = details.Details
	}
	return list, err
}

// Set creates a pusher of a user, or replaces the one with the same app ID and pushkey. Unless append is set, it deletes those
// of other users.
//
// Errors: M_INVALID_PARAM, M_TOO_LARGE.
//
// Spec: client-server-api#post_matrixclientv3pushersset
func (p *Push) Set(ctx context.Context, user who.User, pusher Pusher, append bool) error {
	if err := p.check(&pusher); err != nil {
		return err
	}
	num, err := p.store.Next(ctx, "pusher")
	if err != nil {
		return err
	}
	row := pushdb.Pusher{
		Num: num, User: user.UserNum, AppID: pusher.AppID, Pushkey: pusher.Pushkey, Kind: pusher.Kind, DeviceID: pusher.DeviceID,
		Enabled: pusher.Enabled, Data: string(pusher.Data), SetTS: p.store.Now().UnixMilli(),
	}
	err = p.accounts.Change(ctx, user.UserNum, func(r *store.Read, c *store.Change) error {
		now, err := account.Of(r, user.UserNum)
		if err != nil {
			return err
		}
		if now.Deactivated {
			return mxerr.UnknownToken(false)
		}
		own, err := pushdb.Pushers(r, user.UserNum)
		if err != nil {
			return err
		}
		old := find(own, row.AppID, row.Pushkey)
		if old == nil && len(own) >= MaxPushers {
			return mxerr.InvalidParam("You have %d pushers, and can't have more; delete one first", MaxPushers)
		}
		if !append {
			if err := deleteOfOtherUsers(r, c, user.UserNum, row.AppID, row.Pushkey); err != nil {
				return err
			}
		}
		details := storedDetails{Details: pusher.Details, Since: r.Head()}
		if old != nil {
			was, err := parseDetails(old.Details)
			if err != nil {
				return err
			}
			details.Since = was.Since
		}
		text, err := json.Marshal(details)
		if err != nil {
			return err
		}
		row.Details = string(text)
		pushdb.SetPusher(c, row)
		if old != nil && old.Queued { // it may have failed for long, and is tried at once
			return reader.Enqueue(c, p.deliverJob(old.Num, 0))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set a pusher of %s: %w", user.UserID, err)
	}
	return nil
}

// find returns the pusher with an app ID and a pushkey, nil for none.
func find(list []pushdb.Pusher, appID, pushkey string) *pushdb.Pusher {
	for i := range list {
		if list[i].AppID == appID && list[i].Pushkey == pushkey {
			return &list[i]
		}
	}
	return nil
}

func deleteOfOtherUsers(r *store.Read, c *store.Change, user store.UserNum, appID, pushkey string) error {
	same, err := pushdb.SameKey(r, appID, pushkey)
	for _, o := range same {
		if o.User != user {
			pushdb.DeletePusher(c, o)
		}
	}
	return err
}

// Delete deletes a pusher of a user. It ignores one that does not exist.
//
// Spec: client-server-api#post_matrixclientv3pushersset
func (p *Push) Delete(ctx context.Context, user store.UserNum, appID, pushkey string) error {
	return p.accounts.Change(ctx, user, func(r *store.Read, c *store.Change) error {
		own, err := pushdb.Pushers(r, user)
		if found := find(own, appID, pushkey); found != nil {
			pushdb.DeletePusher(c, pushdb.Owner{Num: found.Num, User: user})
		}
		return err
	})
}

// check refuses a pusher that can't be served or stored.
func (p *Push) check(x *Pusher) error {
	if x.Kind != KindHTTP {
		return mxerr.InvalidParam("This server has no pushers of kind %q, only of kind http", x.Kind)
	}
	for _, t := range []struct {
		name, text string
		most       int
	}{
		{"pushkey", x.Pushkey, MaxPushkey}, {"app_id", x.AppID, MaxAppID}, {"app_display_name", x.AppDisplayName, MaxText},
		{"device_display_name", x.DeviceDisplayName, MaxText}, {"profile_tag", x.ProfileTag, MaxText}, {"lang", x.Lang, MaxText},
	} {
		if strings.Contains(t.text, "\x00") {
			return mxerr.InvalidParam("%s must not have a NUL", t.name)
		}
		if len(t.text) > t.most {
			return mxerr.InvalidParam("%s must not be longer than %d bytes", t.name, t.most)
		}
	}
	if x.Pushkey == "" || x.AppID == "" {
		return mxerr.InvalidParam("pushkey and app_id must not be empty")
	}
	if len(x.Data) > MaxData {
		return mxerr.TooLarge("The data of a pusher must not have more than %d bytes", MaxData)
	}
	d, err := parseData(x.Data)
	if err != nil {
		return err
	}
	return p.checkURL(d.url)
}

// data is what the server reads of a pusher's data.
type data struct {
	url     string
	idOnly  bool                       // the gateway gets no more of an event than its ID
	noBadge bool                       // MSC4076: the client counts
	rest    map[string]json.RawMessage // what the gateway gets: all but the URL
}

// parseData reads the data of a pusher of kind http.
//
// Spec: client-server-api#post_matrixclientv3pushersset
func parseData(text []byte) (d data, err error) {
	if err := json.Unmarshal(text, &d.rest); err != nil || d.rest == nil {
		return d, mxerr.InvalidParam("data must be an object with the url of the push gateway").Because(err)
	}
	if d.rest["url"] == nil {
		return d, mxerr.MissingParam("The url of the push gateway is missing in data")
	}
	if json.Unmarshal(d.rest["url"], &d.url) != nil {
		return d, mxerr.InvalidParam("The url of the push gateway must be a string")
	}
	delete(d.rest, "url")
	if format := string(d.rest["format"]); format != "" && format != `"event_id_only"` {
		return d, mxerr.InvalidParam("The format of a pusher is event_id_only, or left out")
	}
	d.idOnly = d.rest["format"] != nil
	d.noBadge = string(d.rest["org.matrix.msc4076.disable_badge_count"]) == "true"
	return d, nil
}

// checkURL checks the address of a gateway. Which network addresses may be reached is decided when it is dialled.
//
// Spec: client-server-api#post_matrixclientv3pushersset
func (p *Push) checkURL(text string) error {
	if len(text) > MaxURL {
		return mxerr.InvalidParam("The url of a push gateway must not be longer than %d bytes", MaxURL)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Hostname() == "", u.User != nil, u.Fragment != "":
		return mxerr.InvalidParam("The url of the push gateway is not valid")
	case u.Scheme != "https" && (u.Scheme != "http" || !p.opt.AllowPrivate):
		return mxerr.InvalidParam("The url of the push gateway must begin with https://")
	case u.Path != notifyPath:
		return mxerr.InvalidParam("The url of the push gateway must have the path %s", notifyPath)
	}
	return nil
}
