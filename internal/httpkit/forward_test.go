package httpkit

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stoa/matrix/mxerr"
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

// countedBody counts the bytes that are read from it.
type countedBody struct {
	io.Reader
	read int
}

func (c *countedBody) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.read += n
	return n, err
}

// Otherwise anybody could have this instance keep bodies for another one.
func TestForwarder_takes_no_body_of_strangers(t *testing.T) {
	t.Parallel()
	f := &fakeForwarder{}
	m, err := NewMux(Options{Forward: f, Identify: func(r *http.Request) (string, error) {
		if BearerToken(r) != "valid" {
			return "", mxerr.New(http.StatusUnauthorized, mxerr.CodeUnknownToken, "No such token")
		}
		return "@a:b", nil
	}}, []Route{{Method: "PUT", Pattern: "/rooms/{room}/send", Handler: Adapt(unrecognized), Home: "room", Token: true, MaxBody: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]struct{ status, read, asked int }{
		"":        {401, 0, 0},
		"invalid": {401, 0, 0},
		"valid":   {418, 100_000, 1},
	} {
		f.asked = nil
		body := &countedBody{Reader: strings.NewReader(strings.Repeat("x", 100_000))}
		r := httptest.NewRequest("PUT", "/rooms/!far:a/send", body)
		r.ContentLength = 100_000
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if w.Code != want.status || body.read != want.read || len(f.asked) != want.asked {
			t.Errorf("token %q: %d after %d bytes, forwarded %v", token, w.Code, body.read, f.asked)
		}
	}
}
