package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"stoa/internal/devtools/spec"
)

// house is a server with two people in a room, so that every request could have
// an effect if it were right.
type house struct {
	binary    string
	dir, addr string
	cmd       *exec.Cmd
	log       bytes.Buffer
	client    *http.Client
	admin     *http.Client

	token  string
	other  string            // the user ID of somebody else
	values map[string]string // of path parameters, by name
	next   int               // for transaction IDs
}

const password = "a long password"

func open(binary string) (h *house, err error) {
	binary, err = filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "stoa-badinput-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h = &house{dir: dir, addr: l.Addr().String(), client: &http.Client{Timeout: time.Minute}}
	if err := l.Close(); err != nil {
		return nil, err
	}
	h.admin = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(dir, "admin"))
	}}}
	h.binary = binary
	h.cmd = exec.Command(binary, "serve")
	h.cmd.Env = append(os.Environ(), "STOA_SERVER_NAME=bad.test", "STOA_CLIENT_LISTEN="+h.addr, "STOA_DATA_DIR="+dir,
		"STOA_ADMIN_LISTEN=unix:"+filepath.Join(dir, "admin"), "STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off",
		"STOA_REGISTRATION_SHARED_SECRET=a secret")
	h.cmd.Stdout, h.cmd.Stderr = &h.log, &h.log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		if res, err := http.Get("http://" + h.addr + "/ready"); err == nil {
			_ = res.Body.Close() // nothing in it
			break
		}
		if time.Now().After(deadline) {
			h.close()
			return nil, fmt.Errorf("the server did not start:\n%s", h.log.String())
		}
		time.Sleep(5 * time.Millisecond) // nothing announces an open port
	}
	if err := h.furnish(); err != nil {
		h.close()
		return nil, fmt.Errorf("set the scene: %w", err)
	}
	return h, nil
}

func (h *house) close() {
	_ = h.cmd.Process.Kill() // may be gone already
	_ = h.cmd.Wait()         // being killed is what was asked for
	_ = os.RemoveAll(h.dir)  // a temporary folder
}

// stoa runs another command of the program on the server's data.
func (h *house) stoa(args ...string) ([]byte, error) {
	c := exec.Command(h.binary, args...)
	c.Env = h.cmd.Env
	return c.CombinedOutput()
}

// furnish makes what the paths name.
func (h *house) furnish() error {
	var me struct {
		UserID      string `json:"user_id"`
		AccessToken string `json:"access_token"`
		DeviceID    string `json:"device_id"`
	}
	dummy := map[string]any{"username": "alice", "password": password, "auth": map[string]string{"type": "m.login.dummy"}}
	if err := h.do("POST", "/_matrix/client/v3/register", dummy, &me); err != nil {
		return err
	}
	h.token = me.AccessToken
	var other struct {
		UserID string `json:"user_id"`
	}
	dummy["username"] = "bob"
	if err := h.do("POST", "/_matrix/client/v3/register", dummy, &other); err != nil {
		return err
	}
	h.other = other.UserID
	// An administrator, so that the endpoints for them read what they are sent.
	if out, err := h.stoa("user", "admin", "alice"); err != nil {
		return fmt.Errorf("stoa user admin: %w\n%s", err, out)
	}
	var room struct {
		RoomID string `json:"room_id"`
	}
	if err := h.do("POST", "/_matrix/client/v3/createRoom", map[string]string{"preset": "public_chat", "room_alias_name": "house"}, &room); err != nil {
		return err
	}
	var event struct {
		EventID string `json:"event_id"`
	}
	if err := h.do("PUT", "/_matrix/client/v3/rooms/"+url.PathEscape(room.RoomID)+"/send/m.room.message/first", map[string]string{"msgtype": "m.text", "body": "here"}, &event); err != nil {
		return err
	}
	h.values = map[string]string{
		"userId": me.UserID, "roomId": room.RoomID, "roomIdOrAlias": room.RoomID, "roomAlias": "#house:bad.test", "eventId": event.EventID,
		"deviceId": me.DeviceID, "eventType": "m.room.message", "stateKey": "", "type": "org.example.data", "tag": "u.tag",
		"keyName": "displayname", "kind": "override", "ruleId": "org.example.rule", "receiptType": "m.read", "relType": "m.thread",
		"filterId": "0", "version": "1", "sessionId": "session", "serverName": "bad.test", "mediaId": "media",
	}
	return nil
}

// comeBack logs in again if a request that should have been refused ended the
// session.
func (h *house) comeBack() error {
	var who struct {
		UserID string `json:"user_id"`
	}
	if err := h.do("GET", "/_matrix/client/v3/account/whoami", nil, &who); err == nil {
		return nil
	}
	var me struct {
		AccessToken string `json:"access_token"`
	}
	err := h.do("POST", "/_matrix/client/v3/login", map[string]any{"type": "m.login.password", "password": password,
		"identifier": map[string]string{"type": "m.id.user", "user": "alice"}}, &me)
	h.token = me.AccessToken
	if err != nil {
		return fmt.Errorf("a malformed request ended the account: %w", err)
	}
	return nil
}

func (h *house) do(method, path string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if in == nil {
		text = nil
	}
	status, body, err := h.send(call{method: method, path: path, body: text})
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s %s: %d %s", method, path, status, body)
	}
	return json.Unmarshal(body, out)
}

// call is one request.
type call struct {
	method, path string
	body         []byte // nil: none
}

func (h *house) send(c call) (status int, body []byte, err error) {
	var in io.Reader
	if c.body != nil {
		in = bytes.NewReader(c.body)
	}
	req, err := http.NewRequest(c.method, "http://"+h.addr+c.path, in)
	if err != nil {
		return 0, nil, err
	}
	if h.token != "" {
		req.Header.Set("Authorization", "Bearer "+h.token)
	}
	res, err := h.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return 0, nil, err
	}
	if res.Header.Get("Access-Control-Allow-Origin") != "*" {
		return 0, nil, errors.New("the answer has no cross-origin headers")
	}
	return res.StatusCode, body, nil
}

// serves asks with a method that no endpoint has whether the path is known, and
// by OPTIONS of nothing: a path that is not served answers 404.
func (h *house) serves(r spec.Request) (bool, error) {
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
func (h *house) path(r spec.Request, name, broken string) (string, bool) {
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

func (h *house) valueOf(r spec.Request, p spec.Parameter) string {
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

var counterLine = regexp.MustCompile(`(?m)^(stoa_store_changes_total|stoa_httpkit_panics_total) (\S+)$`)

func (h *house) counters() (c counted, err error) {
	res, err := h.admin.Get("http://admin/metrics")
	if err != nil {
		return c, err
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return c, err
	}
	found := counterLine.FindAllStringSubmatch(string(text), -1)
	if len(found) != 2 {
		return c, fmt.Errorf("%d of 2 counters found in /metrics", len(found))
	}
	for _, m := range found {
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return c, err
		}
		if strings.HasPrefix(m[1], "stoa_store") {
			c.changes = n
		} else {
			c.panics = n
		}
	}
	return c, nil
}

// judge sends a malformed request and says what is wrong with the answer.
func (h *house) judge(c call, b breaker) (problem string, err error) {
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
