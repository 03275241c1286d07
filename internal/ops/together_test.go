package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/bus/bustest"
	"stoa/internal/cluster"
	"stoa/internal/store/storetest"
)

// together starts the instances a and b on one database.
func together(t *testing.T, settings ...string) (a, b *running) {
	t.Helper()
	settings = append([]string{"STOA_DATABASE=" + storetest.URL(t, "postgres"), "STOA_REGISTRATION=open"}, settings...)
	return start(t, append(settings, "STOA_INSTANCE=a")...), start(t, append(settings, "STOA_INSTANCE=b")...)
}

// overEachBus runs a test with each kind of bus.
func overEachBus(t *testing.T, f func(t *testing.T, setting string)) {
	t.Helper()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, "STOA_REDIS=")
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		f(t, "STOA_REDIS="+bustest.NewRedis(t).URL)
	})
}

// login is a user's access to the server.
type login struct {
	UserID      string `json:"user_id"`
	DeviceID    string `json:"device_id"`
	AccessToken string `json:"access_token"`
}

const password = "correct horse battery"

func signUp(t *testing.T, srv *running, name string) (l login) {
	t.Helper()
	ask(t, "POST", srv.url+"/_matrix/client/v3/register", "", `{"username":"`+name+`","password":"`+password+`","auth":{"type":"m.login.dummy"}}`, &l)
	return l
}

func logIn(t *testing.T, srv *running, name string) (l login) {
	t.Helper()
	ask(t, "POST", srv.url+"/_matrix/client/v3/login", "",
		`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"`+name+`"},"password":"`+password+`"}`, &l)
	return l
}

// try sends a request and returns the status and body of any answer.
func try(method, address, token, body string) (status int, answer string, header http.Header, err error) {
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), res.Header, errors.Join(err, res.Body.Close())
}

// poller is a client in a long poll.
type poller struct {
	t     *testing.T
	at    *running
	token string
	since string
}

// read begins to sync.
func read(t *testing.T, at *running, token string) *poller {
	t.Helper()
	r := &poller{t: t, at: at, token: token}
	if _, err := r.next("?timeout=0"); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *poller) next(query string) (answer string, err error) {
	status, answer, _, err := try("GET", r.at.url+"/_matrix/client/v3/sync"+query, r.token, "")
	if err != nil || status != http.StatusOK {
		return "", fmt.Errorf("sync: %d %s, %w", status, answer, err)
	}
	var got struct {
		NextBatch string `json:"next_batch"`
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		return "", err
	}
	r.since = got.NextBatch
	return answer, nil
}

// seen is the time of an observation, or its error.
type seen struct {
	at  time.Time
	err error
}

// watch waits in long polls until an answer has all the words.
func (r *poller) watch(words ...string) <-chan seen {
	came := make(chan seen, 1)
	go func() {
		limit := time.Now().Add(20 * time.Second)
		for {
			answer, err := r.next("?timeout=10000&since=" + url.QueryEscape(r.since))
			now := time.Now()
			all := true
			for _, w := range words {
				all = all && strings.Contains(answer, w)
			}
			if err == nil && !all && now.After(limit) {
				err = fmt.Errorf("%q never came, but %s", words, answer)
			}
			if err != nil || all {
				came <- seen{now, err}
				return
			}
		}
	}()
	return came
}

// sees waits until an answer has all the words while act runs, and returns how long after
// its end that was.
func (r *poller) sees(act func(), words ...string) time.Duration {
	r.t.Helper()
	came := r.watch(words...)
	act()
	acted := time.Now()
	got := <-came
	if got.err != nil {
		r.t.Fatal(got.err)
	}
	return got.at.Sub(acted)
}

// meet creates a room for two: created on one instance and joined on the other.
func meet(t *testing.T, a *running, alice login, b *running, bob login) (path string) {
	t.Helper()
	var room struct {
		RoomID string `json:"room_id"`
	}
	ask(t, "POST", a.url+"/_matrix/client/v3/createRoom", alice.AccessToken, `{"preset":"public_chat"}`, &room)
	ask(t, "POST", b.url+"/_matrix/client/v3/join/"+room.RoomID, bob.AccessToken, `{}`, nil)
	return "/_matrix/client/v3/rooms/" + room.RoomID
}

// A user's action on one instance reaches users who wait on the other, at once.
func TestInstances_tell_each_other(t *testing.T) {
	t.Parallel()
	overEachBus(t, func(t *testing.T, setting string) {
		a, b := together(t, setting, "STOA_RATE_LIMITS=off")
		alice, bob := signUp(t, a, "alice"), signUp(t, b, "bob")
		path := meet(t, a, alice, b, bob)
		var sent struct {
			EventID string `json:"event_id"`
		}
		ask(t, "PUT", b.url+path+"/send/m.room.message/1", bob.AccessToken, `{"msgtype":"m.text","body":"from bob"}`, &sent)
		on := read(t, b, bob.AccessToken)
		user := "/_matrix/client/v3/user/" + bob.UserID
		for _, step := range []struct {
			name, method, path string
			by                 login
			body               string
			words              []string
		}{
			{"typing", "PUT", path + "/typing/" + alice.UserID, alice, `{"typing":true,"timeout":30000}`,
				[]string{"m.typing", `"user_ids":["` + alice.UserID + `"]`}},
			{"the end of typing", "PUT", path + "/typing/" + alice.UserID, alice, `{"typing":false}`,
				[]string{"m.typing", `"user_ids":[]`}},
			{"a message", "PUT", path + "/send/m.room.message/1", alice, `{"msgtype":"m.text","body":"from alice"}`, []string{"from alice"}},
			{"a receipt", "POST", path + "/receipt/m.read/" + sent.EventID, alice, `{}`, []string{"m.receipt", sent.EventID, alice.UserID}},
			{"account data", "PUT", user + "/account_data/org.example.note", bob, `{"words":"of the other device"}`, []string{"of the other device"}},
			{"account data of a room", "PUT", user + "/rooms" + strings.TrimPrefix(path, "/_matrix/client/v3/rooms") + "/account_data/org.example.note", bob,
				`{"words":"of this room"}`, []string{"of this room"}},
			{"presence", "PUT", "/_matrix/client/v3/presence/" + alice.UserID + "/status", alice, `{"presence":"unavailable","status_msg":"at lunch"}`,
				[]string{"m.presence", "at lunch"}},
			{"a message to a device", "PUT", "/_matrix/client/v3/sendToDevice/org.example.wave/1", alice,
				`{"messages":{"` + bob.UserID + `":{"` + bob.DeviceID + `":{"hand":"left"}}}}`, []string{"org.example.wave", "left"}},
		} {
			t.Logf("%s: seen after %v", step.name, on.sees(func() { ask(t, step.method, a.url+step.path, step.by.AccessToken, step.body, nil) }, step.words...))
		}
	})
}

// When one instance revokes a token, all instances refuse it from the next request on.
func TestInstances_refuse_a_token_that_was_revoked_elsewhere(t *testing.T) {
	t.Parallel()
	overEachBus(t, func(t *testing.T, setting string) {
		a, b := together(t, setting, "STOA_RATE_LIMITS=off")
		signUp(t, a, "alice")
		for range 5 {
			l := logIn(t, b, "alice")
			ask(t, "GET", a.url+"/_matrix/client/v3/account/whoami", l.AccessToken, "", nil)
			ask(t, "GET", b.url+"/_matrix/client/v3/account/whoami", l.AccessToken, "", nil) // now it is cached there
			waits := read(t, b, l.AccessToken)
			ended := make(chan int, 1)
			go func() {
				status, _, _, _ := try("GET", b.url+"/_matrix/client/v3/sync?timeout=60000&since="+waits.since, l.AccessToken, "")
				ended <- status
			}()
			ask(t, "POST", a.url+"/_matrix/client/v3/logout", l.AccessToken, `{}`, nil)
			status, body, _, err := try("GET", b.url+"/_matrix/client/v3/account/whoami", l.AccessToken, "")
			if err != nil || status != http.StatusUnauthorized || !strings.Contains(body, "M_UNKNOWN_TOKEN") {
				t.Fatalf("%d %s, %v", status, body, err)
			}
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Fatal("who waits with the token goes on waiting")
			}
		}
	})
}

// Attempts are counted exactly over all instances.
func TestInstances_count_login_attempts_together(t *testing.T) {
	t.Parallel()
	a, b := together(t)
	signUp(t, a, "alice")
	const allowed = 10 // of one user from one address
	wrong := `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"wrong"}`
	var refused, limited atomic.Int64
	var g sync.WaitGroup
	began := time.Now()
	for i := range 2 * allowed {
		g.Go(func() {
			status, body, _, err := try("POST", []*running{a, b}[i%2].url+"/_matrix/client/v3/login", "", wrong)
			switch {
			case err == nil && status == http.StatusForbidden:
				refused.Add(1)
			case err == nil && status == http.StatusTooManyRequests && strings.Contains(body, "M_LIMIT_EXCEEDED"):
				limited.Add(1)
			default:
				t.Errorf("%d %s, %v", status, body, err)
			}
		})
	}
	g.Wait()
	back := int64(time.Since(began) / (20 * time.Second)) // each 20 s allow one more
	if n := refused.Load(); n < allowed || n > allowed+back {
		t.Errorf("%d attempts were let through, %d were not", n, limited.Load())
	}
}

// An operation that begins on one instance can be completed on the other.
func TestInstances_share_interactive_authentication(t *testing.T) {
	t.Parallel()
	a, b := together(t, "STOA_RATE_LIMITS=off")
	begin := func(srv *running, method, path, token, body string) string {
		t.Helper()
		status, answer, _, err := try(method, srv.url+path, token, body)
		var challenge struct {
			Session string `json:"session"`
		}
		if err := errors.Join(err, json.Unmarshal([]byte(answer), &challenge)); err != nil || status != http.StatusUnauthorized || challenge.Session == "" {
			t.Fatalf("%d %s, %v", status, answer, err)
		}
		return challenge.Session
	}
	const register = "/_matrix/client/v3/register"
	session := begin(a, "POST", register, "", `{"username":"alice","password":"`+password+`"}`)
	var alice login
	ask(t, "POST", b.url+register, "", `{"username":"alice","password":"`+password+`","auth":{"type":"m.login.dummy","session":"`+session+`"}}`, &alice)

	old := logIn(t, a, "alice")
	path := "/_matrix/client/v3/devices/" + old.DeviceID
	session = begin(a, "DELETE", path, alice.AccessToken, `{}`)
	proof := `{"auth":{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"` + password + `","session":"` + session + `"}}`
	ask(t, "DELETE", b.url+path, alice.AccessToken, proof, nil)
	status, answer, _, err := try("GET", a.url+"/_matrix/client/v3/account/whoami", old.AccessToken, "")
	if err != nil || status != http.StatusUnauthorized {
		t.Errorf("the device that was deleted: %d %s, %v", status, answer, err)
	}
}

// slowPoll bounds the delay of another instance's writes while the instances are
// disconnected.
const slowPoll = 2 * time.Second

func TestInstances_see_what_others_write_while_the_bus_is_dead(t *testing.T) {
	t.Parallel()
	dead := "STOA_REDIS=unix://" + t.TempDir() + "/nobody"
	a, b := together(t, dead, "STOA_RATE_LIMITS=off")
	alice, bob := signUp(t, a, "alice"), signUp(t, a, "bob")
	path := meet(t, a, alice, b, bob)
	readers := map[string]*poller{"a": read(t, a, bob.AccessToken), "b": read(t, b, logIn(t, b, "bob").AccessToken)}
	var status cluster.Status
	if err := json.Unmarshal([]byte(printed(t, a, "cluster", "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	for _, i := range status.Instances {
		if i.Bus {
			t.Fatalf("%s hears others", i.Name)
		}
	}
	worst := time.Duration(0)
	for n := range 6 {
		// A sync on the instance that did not write the event must find it by polling.
		text := fmt.Sprint("number ", n)
		came := map[string]<-chan seen{}
		for name, r := range readers {
			came[name] = r.watch(text)
		}
		srv := []*running{a, b}[n%2]
		home := ask(t, "PUT", fmt.Sprint(srv.url, path, "/send/m.room.message/", n), alice.AccessToken, `{"msgtype":"m.text","body":"`+text+`"}`, nil).Get("X-Stoa-Home")
		written := time.Now()
		for name := range came {
			got := <-came[name]
			if got.err != nil {
				t.Fatal(got.err)
			}
			d := got.at.Sub(written)
			if d > slowPoll {
				t.Errorf("%s, home %s: seen after %v", name, home, d)
			}
			if name != home {
				t.Logf("%s, home %q: seen after %v", name, home, d)
			}
			worst = max(worst, d)
		}
	}
	t.Logf("seen after %v at most", worst)
}

// An instance that can't reach the database reports that, and resumes when it can.
func TestInstances_without_the_database_say_try_again(t *testing.T) {
	t.Parallel()
	address := storetest.URL(t, "postgres")
	proxy := storetest.NewProxy(t, address)
	settings := []string{"STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off"}
	a := start(t, append(settings, "STOA_INSTANCE=a", "STOA_DATABASE="+proxy.URL)...)
	b := start(t, append(settings, "STOA_INSTANCE=b", "STOA_DATABASE="+address)...)
	alice, bob := signUp(t, a, "alice"), signUp(t, b, "bob")
	path := meet(t, a, alice, b, bob)
	on := read(t, a, alice.AccessToken)
	message := `{"msgtype":"m.text","body":"x"}`
	ready := func(want int) func() bool {
		return func() bool {
			status, _, _, err := try("GET", a.url+"/ready", "", "")
			return err == nil && status == want
		}
	}
	waitFor(t, ready(http.StatusOK))

	proxy.Break()
	for _, x := range []struct{ method, path, body string }{
		{"GET", "/_matrix/client/v3/account/whoami", ""},
		{"GET", path + "/messages?dir=b", ""},
		{"GET", "/_matrix/client/v3/sync", ""},
		{"PUT", path + "/send/m.room.message/1", message},
		{"PUT", path + "/typing/" + alice.UserID, `{"typing":true}`},
		{"POST", "/_matrix/client/v3/login", `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"` + password + `"}`},
	} {
		began := time.Now()
		status, answer, header, err := try(x.method, a.url+x.path, alice.AccessToken, x.body)
		if header.Get("X-Stoa-Home") == "b" && status == http.StatusOK {
			continue // if the home reaches the database, it serves the request
		}
		if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(answer, `"errcode":"M_UNKNOWN"`) || header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s, %v", x.method, x.path, status, answer, err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("%s %s: answered after %v", x.method, x.path, took)
		}
	}
	waitFor(t, ready(http.StatusServiceUnavailable))
	ask(t, "PUT", b.url+path+"/send/m.room.message/2", bob.AccessToken, `{"msgtype":"m.text","body":"said meanwhile"}`, nil)

	proxy.Mend()
	waitFor(t, ready(http.StatusOK))
	ask(t, "PUT", a.url+path+"/send/m.room.message/1", alice.AccessToken, message, nil)
	on.sees(func() {}, "said meanwhile")
	if log := a.log.all(); strings.Contains(log, "SELECT") {
		t.Errorf("a cut connection is logged as a fault of a statement:\n%s", log)
	}
	for _, says := range []string{"the database can't be reached", "the setting database", "the database is back"} {
		if n := strings.Count(a.log.all(), says); n == 0 || says == "the database is back" && n > 3 {
			t.Errorf("%q was logged %d times:\n%s", says, n, a.log.all())
		}
	}
	if log := a.log.all(); strings.Contains(log, "level=ERROR") {
		for line := range bytes.Lines([]byte(log)) {
			if bytes.Contains(line, []byte("level=ERROR")) {
				t.Errorf("a fault was logged: %s", line)
			}
		}
	}
}
