package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stoa/internal/store/storetest"
)

func TestForward_to_the_home_whichever_instance_is_asked(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b, c := f.start("a"), f.start("b"), f.start("c")
	see(t, a, b, c)
	homes := map[string]int{}
	for i := range 30 {
		roomID := fmt.Sprintf("!%d:stoa.test", i)
		home := a.send(roomID)
		homes[home]++
		for _, in := range []*instance{b, c} {
			if got := in.send(roomID); got != home {
				t.Errorf("%s sends to %s, a to %s", in.name, got, home)
			}
		}
	}
	if len(homes) != 3 {
		t.Errorf("the homes are %v", homes)
	}
	if r := a.ask("GET", "/rooms/!1:stoa.test", ""); r.Header().Get("X-Stoa-Home") != "" || !strings.Contains(r.Body.String(), `"Peer":false`) {
		t.Errorf("a request that writes nothing was forwarded: %v %s", r.Header(), r.Body)
	}
}

// TestOwner: each piece of work has one owner, and all leases differ.
func TestOwner(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	all := []*instance{f.start("a"), f.start("b"), f.start("c")}
	see(t, all...)
	owned := map[string]int{}
	for i := range 60 {
		key, owners := fmt.Sprint("shard", i), 0
		for _, in := range all {
			if in.Owner("destination", key) {
				owners++
				owned[in.name]++
			}
		}
		if owners != 1 {
			t.Errorf("%s has %d owners", key, owners)
		}
	}
	if len(owned) != 3 {
		t.Errorf("the owners are %v", owned)
	}
	if a, b, c := all[0].Lease(), all[1].Lease(), all[2].Lease(); a <= 0 || b <= a || c <= b {
		t.Errorf("the leases are %d, %d, %d", a, b, c)
	}
}

func TestForward_hands_on_the_whole_request(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	roomID := a.roomOf(b)
	body := strings.Repeat("x", 300_000)
	path := strings.ReplaceAll("/rooms/"+roomID+"/kick?a=b%20c&d", "!", "%21")
	r := a.ask("POST", path, body, func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer 1")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Forwarded-For", "203.0.113.1")
		r.Header.Set(addressHeader, "203.0.113.2")
	})
	if r.Code != http.StatusOK {
		t.Fatal(r.Code, r.Body)
	}
	for _, want := range []string{
		`"Instance":"b"`, `"Address":"192.0.2.7:4711"`, `"Path":"` + roomID + `"`, `"Query":"a=b%20c&d"`, `"Body":"` + body + `"`,
		`"Type":"application/json"`, `"Secret":"Bearer 1"`, `"Forwarded":""`, `"Peer":true`,
	} {
		if !strings.Contains(r.Body.String(), want) {
			t.Errorf("%.40s is missing in the answer", want)
		}
	}
	if r.Header().Get("X-Stoa-Instance") != "a" || r.Header().Get("X-Stoa-Home") != "b" || len(r.Header()["Content-Type"]) != 1 {
		t.Errorf("the headers are %v", r.Header())
	}
	if r := a.ask("POST", path, strings.Repeat("x", 1<<20+1)); r.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that is too large gives %d", r.Code)
	}
}

func TestForward_hands_on_refusals(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.serve = func(*instance, *http.Request) error { return errBusy }
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	r := a.ask("PUT", "/rooms/"+a.roomOf(b)+"/send/1", "{}")
	if r.Code != 503 || !strings.Contains(r.Body.String(), "M_UNKNOWN") || r.Header().Get("X-Stoa-Home") != "b" {
		t.Errorf("got %d %s from %v", r.Code, r.Body, r.Header())
	}
	if a.count.Load() != 0 {
		t.Error("what the home refused was served again")
	}
}

// TestForward_counts_limits_once: only the instance that received a request counts it
// against the limits of the client's address.
func TestForward_counts_limits_once(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	roomID := a.roomOf(b)
	codes := map[int]int{}
	for range 20 {
		codes[a.ask("POST", "/join/"+roomID, "").Code]++
	}
	if codes[200] < 10 || codes[200] > 11 {
		t.Errorf("of 20 requests with a limit of 10: %v", codes)
	}
	if r := b.ask("POST", "/join/"+roomID, ""); r.Code != 200 {
		t.Errorf("b has counted what a forwarded: %d", r.Code)
	}
	if r := b.ask("POST", "/join/%23alias:stoa.test", "", func(r *http.Request) { r.RemoteAddr = "192.0.2.8:1" }); r.Header().Get("X-Stoa-Home") != "" {
		t.Errorf("an alias has the home %s", r.Header().Get("X-Stoa-Home"))
	}
}

// TestForward_only_once: an instance serves a forwarded request even if it is not the
// home.
func TestForward_only_once(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	p := b.view.Load().peers[a.Lease()]
	r := httptest.NewRequest("PUT", "/rooms/"+a.roomOf(b)+"/send/1", strings.NewReader("{}"))
	answer, err := p.send(p.link.Load(), r, []byte("{}"))
	if err != nil || !strings.Contains(string(answer.body), `"Instance":"a"`) {
		t.Errorf("%v, want it served by a: %v", err, answer)
	}
}

func TestForward_ends_with_its_client(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	begun, ended := make(chan struct{}), make(chan struct{})
	f.serve = func(_ *instance, r *http.Request) error {
		close(begun)
		<-r.Context().Done()
		close(ended)
		return r.Context().Err()
	}
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	edge := httptest.NewServer(a.mux)
	defer edge.Close()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", edge.URL+"/rooms/"+a.roomOf(b)+"/send/1", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-begun
		edge.CloseClientConnections()
	}()
	if res, err := http.DefaultClient.Do(req); err == nil {
		t.Errorf("got %s", res.Status)
		_ = res.Body.Close()
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the home goes on though nobody waits")
	}
}

func TestStrangers_are_not_let_in(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.start("a")
	address := a.own.Load().Address
	stranger, err := newIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	all := func(string) bool { return true }
	for name, config := range map[string]*tls.Config{
		"no certificate":         {InsecureSkipVerify: true, NextProtos: []string{protocolName}},
		"an unknown certificate": stranger.config(all),
		"an old version of TLS":  {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{stranger.certificate}},
	} {
		conn, err := tls.Dial("tcp", address, config)
		if err == nil {
			_, err = conn.Read(make([]byte, 1)) // in TLS 1.3 the refusal follows the handshake
			_ = conn.Close()
		}
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: not refused: %v", name, err)
		}
	}
	// This side refuses a server whose certificate is not the one in the table.
	imposter := httptest.NewUnstartedServer(http.NotFoundHandler())
	imposter.TLS = stranger.config(all)
	imposter.StartTLS()
	defer imposter.Close()
	row := *a.own.Load()
	row.Address, row.Lease = imposter.Listener.Addr().String(), 99
	p := a.newPeer(row)
	defer p.end()
	until(t, 5*time.Second, "an imposter is found out", func() bool {
		var dial *dialError
		err := p.ping(t.Context()) // the watch may close the connection first
		return errors.As(err, &dial) && errors.Is(err, errStranger)
	})
	if p.link.Load() != nil {
		t.Error("the imposter is used")
	}
}

func TestAlone_on_SQLite(t *testing.T) {
	t.Parallel()
	s := storetest.SQLite(t)
	c, err := New(Options{Store: s, Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Join(t.Context(), http.NotFoundHandler(), nil); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	if c.Forward(w, httptest.NewRequest("PUT", "/", nil), "!a:b") || len(w.Header()) != 0 {
		t.Error("forwarded by an instance that is alone")
	}
	if name, self := c.Home("!a:b"); name != "a" || !self || !c.Owner("destination", "b") || !c.Acting() || c.Healthy() != nil {
		t.Error("an instance that is alone is not home of all")
	}
	status, err := ReadStatus(t.Context(), s)
	if err != nil || status.Shared || len(status.Instances) != 0 {
		t.Errorf("%+v, %v", status, err)
	}
	if err := errors.Join(c.Drain(t.Context()), c.Leave(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestStatus_tells_of_all(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	a.tells.Store(&Report{Rooms: 7, Position: a.store.Head(), Bus: true})
	b.tells.Store(&Report{Position: b.store.Head()})
	if err := b.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	var status Status
	until(t, 5*time.Second, "both are listed", func() bool {
		var err error
		if status, err = ReadStatus(t.Context(), a.store); err != nil {
			t.Fatal(err)
		}
		return len(status.Instances) == 2 && status.Instances[0].Rooms == 7
	})
	one, two := status.Instances[0], status.Instances[1]
	if !status.Shared || one.Name != "a" || one.Draining || !one.Bus || one.Version != "test" || one.Schema < 13 || one.ExpiresMS <= 0 {
		t.Errorf("%+v", one)
	}
	if two.Name != "b" || !two.Draining || two.Bus || two.LagMS != 0 {
		t.Errorf("%+v", two)
	}
}
