package push_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/reader"
	"stoa/internal/server"
	"stoa/internal/server/servertest"
	"stoa/internal/store"
	"stoa/internal/store/pushdb"
	"stoa/internal/store/readerdb"
	"stoa/internal/store/storetest"
)

// testTimeout bounds the wait for something that is expected.
const testTimeout = 30 * time.Second

const v3 = "/_matrix/client/v3"

type object = map[string]any

// gateway is a push gateway that keeps what it is told.
type gateway struct {
	t   *testing.T
	web *httptest.Server

	mu     sync.Mutex // guards all below
	got    []object   // the notifications that it has answered
	wake   chan struct{}
	answer func(w http.ResponseWriter, n object) // nil: it takes everything
	asked  atomic.Int64
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, wake: make(chan struct{})}
	g.web = httptest.NewTLSServer(http.HandlerFunc(g.serve))
	t.Cleanup(g.web.Close)
	return g
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	g.asked.Add(1)
	var body struct{ Notification object }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Method != "POST" || r.URL.Path != "/_matrix/push/v1/notify" {
		g.t.Errorf("%s %s is no notification: %v", r.Method, r.URL, err)
	}
	g.mu.Lock()
	answer := g.answer
	g.mu.Unlock()
	if answer != nil {
		answer(w, body.Notification)
	} else {
		_, _ = io.WriteString(w, `{"rejected":[]}`)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got = append(g.got, body.Notification)
	close(g.wake)
	g.wake = make(chan struct{})
}

// answers changes how the gateway answers; nil: it takes everything.
func (g *gateway) answers(f func(w http.ResponseWriter, n object)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = f
}

// status makes the gateway answer with a status.
func (g *gateway) status(code int, text string) {
	g.answers(func(w http.ResponseWriter, _ object) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text)
	})
}

// await waits until the gateway was told something, and returns everything so far.
func (g *gateway) await(what string, f func(all []object) bool) []object {
	g.t.Helper()
	end := time.After(testTimeout)
	for {
		g.mu.Lock()
		got, wake := g.got[:len(g.got):len(g.got)], g.wake
		g.mu.Unlock()
		if f(got) {
			return got
		}
		select {
		case <-wake:
		case <-end:
			g.t.Fatalf("still not: %s; the gateway was told %v", what, got)
		}
	}
}

// events waits for a number of notifications, and returns their event IDs.
func (g *gateway) events(n int) (ids []string) {
	g.t.Helper()
	for _, x := range g.await(fmt.Sprint(n, " notifications"), func(all []object) bool { return len(all) >= n }) {
		eventID, _ := x["event_id"].(string)
		ids = append(ids, eventID)
	}
	return ids
}

// pool trusts some gateways.
func pool(list ...*gateway) *x509.CertPool {
	p := x509.NewCertPool()
	for _, g := range list {
		p.AddCert(g.web.Certificate())
	}
	return p
}

// fixture is a server with its users.
type fixture struct {
	*testing.T
	*servertest.Server
	txn *atomic.Int64
}

type login struct{ UserID, Token, Device string }

// start starts a server that may reach the gateways.
func start(t *testing.T, st *store.Store, settings []string, gateways ...*gateway) *fixture {
	t.Helper()
	return startWith(t, st, nil, settings, gateways...)
}

func startWith(t *testing.T, st *store.Store, change func(*server.Options), settings []string, gateways ...*gateway) *fixture {
	t.Helper()
	s := servertest.StartWith(t, st, func(o *server.Options) {
		o.GatewayCAs = pool(gateways...)
		if change != nil {
			change(o)
		}
	}, append([]string{"STOA_FEDERATION_ALLOW_PRIVATE=true"}, settings...)...)
	w := &fixture{T: t, Server: s, txn: &atomic.Int64{}}
	w.until("the reader has begun, which notifies of what comes after", func() bool { return len(w.cursorRows()) == reader.Shards })
	return w
}

// cursorRows are the reader's cursors.
func (w *fixture) cursorRows() (list []readerdb.Cursor) {
	w.Helper()
	err := w.Store.Read(w.Context(), func(r *store.Read) error {
		all, err := readerdb.Cursors(r, 1000)
		for _, c := range all {
			if c.Name == "push" {
				list = append(list, c)
			}
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return list
}

// each runs a test on both engines, with a server and a gateway.
func each(t *testing.T, f func(w *fixture, g *gateway), settings ...string) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		g := newGateway(t)
		f(start(t, open(), settings, g), g)
	})
}

func (w *fixture) try(method, path, token string, body any) (int, object) {
	w.Helper()
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			w.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	r := httptest.NewRequest(method, path, reader)
	r.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	w.Handler.ServeHTTP(rec, r)
	var out object
	if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
		w.Fatalf("%s %s: %d %s", method, path, rec.Code, rec.Body)
	}
	return rec.Code, out
}

func (w *fixture) do(method, path, token string, body any) object {
	w.Helper()
	code, out := w.try(method, path, token, body)
	if code != 200 {
		w.Fatalf("%s %s: %d %v", method, path, code, out)
	}
	return out
}

func (w *fixture) signUp(name string) login {
	w.Helper()
	a := w.do("POST", v3+"/register", "", object{"username": name, "password": "pw of " + name, "auth": object{"type": "m.login.dummy"}})
	return login{a["user_id"].(string), a["access_token"].(string), a["device_id"].(string)}
}

// room makes a room of some users; the first one creates it.
func (w *fixture) room(users ...login) string {
	w.Helper()
	roomID := w.do("POST", v3+"/createRoom", users[0].Token, object{"preset": "public_chat", "name": "Agora"})["room_id"].(string)
	for _, u := range users[1:] {
		w.do("POST", path(roomID, "join"), u.Token, object{})
	}
	return roomID
}

func path(roomID string, segments ...string) string {
	p := v3 + "/rooms/" + url.PathEscape(roomID)
	for _, s := range segments {
		p += "/" + url.PathEscape(s)
	}
	return p
}

func (w *fixture) say(u login, roomID, text string, more ...object) string {
	w.Helper()
	return w.send(u, roomID, "m.room.message", append([]object{{"msgtype": "m.text", "body": text}}, more...)...)
}

func (w *fixture) send(u login, roomID, evType string, contents ...object) string {
	w.Helper()
	content := object{}
	for _, m := range contents {
		for k, v := range m {
			content[k] = v
		}
	}
	txn := fmt.Sprintf("t%d-%d", w.txn.Add(1), time.Now().UnixNano())
	return w.do("PUT", path(roomID, "send", evType, txn), u.Token, content)["event_id"].(string)
}

func (w *fixture) read(u login, roomID, eventID string) {
	w.Helper()
	w.do("POST", path(roomID, "receipt", "m.read", eventID), u.Token, object{})
}

// push gives a user a pusher with the gateway.
func (w *fixture) push(u login, g *gateway, pushkey string, more ...object) {
	w.Helper()
	d := object{"url": g.web.URL + "/_matrix/push/v1/notify"}
	body := object{
		"kind": "http", "app_id": "org.example.app", "pushkey": pushkey, "app_display_name": "App", "device_display_name": "Phone", "lang": "en", "data": d,
	}
	for _, m := range more {
		for k, v := range m {
			if extra, ok := v.(object); ok && k == "data" {
				for key, value := range extra {
					d[key] = value
				}
				continue
			}
			body[k] = v
		}
	}
	w.do("POST", v3+"/pushers/set", u.Token, body)
}

// pushers are the rows of all pushers of a user.
func (w *fixture) pushers(u login) (list []pushdb.Pusher) {
	w.Helper()
	err := w.Store.Read(w.Context(), func(r *store.Read) error {
		num, err := w.Store.UserNum(r, u.UserID)
		if err == nil {
			list, err = pushdb.Pushers(r, num)
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return list
}

// until waits for a condition that other goroutines fulfil.
func (w *fixture) until(what string, f func() bool) {
	w.Helper()
	end := time.Now().Add(testTimeout)
	for !f() {
		if time.Now().After(end) {
			w.Fatalf("after %s still not: %s\n%s", testTimeout, what, w.tail())
		}
		<-time.After(5 * time.Millisecond)
	}
}

// tail is the end of the log.
func (w *fixture) tail() string {
	lines := strings.Split(w.Log.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	a, errA := json.Marshal(got)
	b, errB := json.Marshal(want)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("%s is\n%s, want\n%s", what, a, b)
	}
}
