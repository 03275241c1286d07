package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"stoa/internal/devtools/spec"
	"stoa/test/kit"
)

// fixture is a server with two people in a room, so that every request could have
// an effect if it were right.
type fixture struct {
	server *kit.Server
	client kit.Client
	admin  *http.Client

	other  string            // the user ID of somebody else
	values map[string]string // of path parameters, by name
	next   int               // for transaction IDs
}

func open(binary string) (h *fixture, err error) {
	dir, err := os.MkdirTemp("", "stoa-badinput-")
	if err != nil {
		return nil, err
	}
	admin := "unix:" + filepath.Join(dir, "admin")
	h = &fixture{admin: &http.Client{Transport: &http.Transport{DialContext: kit.Dialer(admin)}}}
	h.server, err = kit.NewServer("server", binary, dir, "STOA_SERVER_NAME=bad.test", "STOA_ADMIN_LISTEN="+admin,
		"STOA_REGISTRATION=open", "STOA_REGISTRATION_SHARED_SECRET=a secret")
	if err != nil {
		return nil, err
	}
	h.client = kit.Client{Base: h.server.URL(), HTTP: &http.Client{Timeout: time.Minute}}
	if err := h.server.Start(); err != nil {
		h.close()
		return nil, err
	}
	if err := h.prepare(); err != nil {
		h.close()
		return nil, fmt.Errorf("make accounts and a room: %w", err)
	}
	return h, nil
}

func (h *fixture) close() {
	h.server.Kill()
	_ = os.RemoveAll(h.server.Dir) // a temporary folder
}

// prepare makes what the paths name.
func (h *fixture) prepare() error {
	ctx := context.Background()
	me, err := h.client.Register(ctx, "alice")
	if err != nil {
		return err
	}
	h.client.Token = me.AccessToken
	other, err := h.client.Register(ctx, "bob")
	if err != nil {
		return err
	}
	h.other = other.UserID
	// An administrator, so that the endpoints for them read what they are sent.
	if _, err := h.server.Run("user", "admin", "alice"); err != nil {
		return err
	}
	roomID, err := h.client.CreateRoom(ctx, map[string]string{"preset": "public_chat", "room_alias_name": "room"})
	if err != nil {
		return err
	}
	eventID, err := h.client.Send(ctx, roomID, "first", "here")
	if err != nil {
		return err
	}
	h.values = map[string]string{
		"userId": me.UserID, "roomId": roomID, "roomIdOrAlias": roomID, "roomAlias": "#room:bad.test", "eventId": eventID,
		"deviceId": me.DeviceID, "eventType": "m.room.message", "stateKey": "", "type": "org.example.data", "tag": "u.tag",
		"keyName": "displayname", "kind": "override", "ruleId": "org.example.rule", "receiptType": "m.read", "relType": "m.thread",
		"filterId": "0", "version": "1", "sessionId": "session", "serverName": "bad.test", "mediaId": "media",
	}
	return nil
}

// logInAgain logs in again if a request that should have been refused ended the
// session.
func (h *fixture) logInAgain() error {
	ctx := context.Background()
	if _, err := h.client.Do(ctx, "GET", kit.API+"/account/whoami", nil, nil); err == nil {
		return nil
	}
	me, err := h.client.Login(ctx, "alice", nil)
	h.client.Token = me.AccessToken
	if err != nil {
		return fmt.Errorf("a malformed request ended the account: %w", err)
	}
	return nil
}

// call is one request.
type call struct {
	method, path string
	body         []byte // nil: none
}

func (h *fixture) send(c call) (status int, body []byte, err error) {
	a, err := h.client.Exchange(context.Background(), c.method, c.path, nil, c.body)
	if err != nil {
		return 0, nil, err
	}
	if a.Header.Get("Access-Control-Allow-Origin") != "*" {
		return 0, nil, errors.New("the answer has no cross-origin headers")
	}
	return a.Status, a.Body, nil
}

// serves asks with a method that no endpoint has whether the path is known, and
// by OPTIONS of nothing: a path that is not served answers 404.
func (h *fixture) serves(r spec.Request) (bool, error) {
	path, _ := h.path(r, "", "")
	status, _, err := h.send(call{method: "BREW", path: path})
	if err != nil || status == http.StatusNotFound {
		return false, err
	}
	if slices.Contains([]string{"GET", "HEAD"}, r.Method) {
		return true, nil
	}
	// A path may be served with other methods only. A body that is not JSON is
	// refused by those that take one; what takes none has no body in its schema.
	if r.Body == nil {
		return true, nil
	}
	status, _, err = h.send(call{method: r.Method, path: path, body: []byte("{")})
	return status != http.StatusMethodNotAllowed, err
}

// path fills the parameters of a path in. One parameter, of the path or of the
// query, may be given as broken, escaped already.
func (h *fixture) path(r spec.Request, name, broken string) (string, bool) {
	path, found := r.Path, false
	var query []string
	for _, p := range r.Parameters {
		value := url.PathEscape(h.valueOf(r, p))
		if p.Name == name {
			value, found = broken, true
		}
		if p.In == "path" {
			path = strings.ReplaceAll(path, "{"+p.Name+"}", value)
		} else if p.Name == name {
			query = append(query, p.Name+"="+broken)
		} else if p.Required {
			query = append(query, p.Name+"="+url.QueryEscape(queryValue(p)))
		}
	}
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	return path, found
}

func (h *fixture) valueOf(r spec.Request, p spec.Parameter) string {
	switch {
	case p.Name == "txnId":
		h.next++
		return "txn" + strconv.Itoa(h.next)
	case p.Name == "userId" && strings.Contains(r.Path, "/admin/"):
		return h.other // administrators can't lock themselves
	case p.Name == "eventType" && strings.Contains(r.Path, "/state/"):
		return "m.room.topic"
	}
	if v, ok := h.values[p.Name]; ok {
		return v
	}
	return "x"
}

// queryValue is a right value of a query parameter that must be there.
func queryValue(p spec.Parameter) string {
	switch {
	case p.Schema != nil && len(p.Schema.Enum) > 0:
		return fmt.Sprint(p.Schema.Enum[0])
	case p.Schema != nil && slices.Contains(p.Schema.Types, "integer"):
		return "1"
	}
	return "1"
}

// counted are the numbers that a malformed request may not move.
type counted struct{ changes, panics float64 }

var counterLine = regexp.MustCompile(`(?m)^(stoa_store_changes_total|stoa_httpkit_panics_total|stoa_reader_moves_total)(?:\{.*\})? (\S+)$`)

func (h *fixture) counters() (c counted, err error) {
	res, err := h.admin.Get("http://admin/metrics")
	if err != nil {
		return c, err
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return c, err
	}
	found := counterLine.FindAllStringSubmatch(string(text), -1)
	if len(found) < 3 {
		return c, fmt.Errorf("%d of 3 counters found in /metrics", len(found))
	}
	for _, m := range found {
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return c, err
		}
		switch m[1] {
		case "stoa_store_changes_total":
			c.changes += n
		case "stoa_reader_moves_total": // what readers do with earlier changes
			c.changes -= n
		default:
			c.panics = n
		}
	}
	return c, nil
}

// settled returns the counters once they agree with those from before the requests, or after
// two seconds: a reader's move is counted a moment after its change.
func (h *fixture) settled(before counted) (after counted, err error) {
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if after, err = h.counters(); err != nil || after == before || time.Now().After(deadline) {
			return after, err
		}
	}
}

// judge sends a malformed request and says what is wrong with the answer.
func (h *fixture) judge(c call, b breaker) (problem string, err error) {
	status, body, err := h.send(c)
	if err != nil {
		return "", err
	}
	if status/100 != 4 {
		return fmt.Sprintf("answered %d %.150s", status, body), nil
	}
	var refusal struct {
		Errcode string `json:"errcode"`
		Error   string `json:"error"`
	}
	if err := json.Unmarshal(body, &refusal); err != nil {
		return fmt.Sprintf("answered %d with no JSON object: %.150s", status, body), nil
	}
	if !slices.Contains(b.statuses, status) || !slices.Contains(b.errcodes, refusal.Errcode) {
		return fmt.Sprintf("answered %d %s (%s), want one of %v %v", status, refusal.Errcode, refusal.Error, b.statuses, b.errcodes), nil
	}
	return "", nil
}
