package httpkit

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// fakeForwarder is a Forwarder that takes what begins with "!far".
type fakeForwarder struct{ asked []string }

func (f *fakeForwarder) Forward(w http.ResponseWriter, _ *http.Request, key string) bool {
	f.asked = append(f.asked, key)
	if !strings.HasPrefix(key, "!far") {
		return false
	}
	w.WriteHeader(http.StatusTeapot)
	return true
}

func TestForwarder_is_asked_about_routes_with_a_home(t *testing.T) {
	t.Parallel()
	f := &fakeForwarder{}
	here := Adapt(func(r *http.Request) (string, error) { return "here", nil })
	m, err := NewMux(Options{
		Forward: f, AddressLimits: map[Limit]*Limiter{LimitLookup: NewLimiter(0.001, 3, time.Now)},
	}, []Route{
		{Method: "PUT", Pattern: "/rooms/{room}/send", Handler: here, Home: "room", Limit: LimitLookup},
		{Method: "GET", Pattern: "/rooms/{room}", Handler: here},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path string
		fromPeer     bool
		want         int
		asked        string
	}{
		{"PUT", "/rooms/!near:a/send", false, 200, "[!near:a]"},
		{"PUT", "/rooms/%21far%2Fb/send", false, 418, "[!far/b]"},
		{"PUT", "/rooms/%23far:a/send", false, 200, "[]"},
		{"PUT", "/rooms/!far:a/send", true, 200, "[]"},
		{"PUT", "/rooms/!far:a/send", false, 429, "[]"}, // what came from a peer was not counted
		{"PUT", "/rooms/!far:a/send", true, 200, "[]"},
		{"GET", "/rooms/!far:a", false, 200, "[]"},
	} {
		f.asked = []string{}
		r := httptest.NewRequest(c.method, c.path, nil)
		if c.fromPeer {
			r = FromPeer(r, r.RemoteAddr)
		}
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if w.Code != c.want || fmt.Sprint(f.asked) != c.asked {
			t.Errorf("%s %s (from a peer: %v): %d after asking %v, want %d after %s", c.method, c.path, c.fromPeer, w.Code, f.asked, c.want, c.asked)
		}
	}
}

func TestNewMux_refuses_a_home_that_is_not_in_the_path(t *testing.T) {
	t.Parallel()
	_, err := NewMux(Options{}, []Route{{Method: "PUT", Pattern: "/rooms/{room}", Handler: Adapt(unrecognized), Home: "roomId"}})
	if err == nil || !strings.Contains(err.Error(), "roomId") {
		t.Error(err)
	}
}
