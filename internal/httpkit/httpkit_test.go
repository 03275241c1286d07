package httpkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/matrix/mxerr"
)

type greeting struct {
	Hello string `json:"hello"`
}

// testMux serves the routes with a log that the test can read.
func testMux(t *testing.T, opts Options, routes ...Route) (*Mux, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	m, err := NewMux(opts, routes)
	if err != nil {
		t.Fatal(err)
	}
	return m, &log
}

func get(method, pattern string, f func(*http.Request) (any, error)) Route {
	return Route{Method: method, Pattern: pattern, Handler: Adapt(f)}
}

func ask(m http.Handler, method, target, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	var b io.Reader
	if body != "" {
		b = strings.NewReader(body)
	}
	m.ServeHTTP(w, httptest.NewRequest(method, target, b))
	return w
}

func errcode(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var body struct {
		Errcode string `json:"errcode"`
		Error   string `json:"error"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("body %q: %v", w.Body, err)
	}
	if body.Error == "" {
		t.Errorf("body %q has no error text", w.Body)
	}
	return body.Errcode
}

// echo answers with a path value.
func echo(name string) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) { return greeting{r.PathValue(name)}, nil }
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		value  any
		status int
		body   string
		kind   string
	}{
		"writes_a_struct_as_json":        {greeting{"<you>"}, 200, `{"hello":"<you>"}`, "application/json"},
		"writes_raw_bytes_as_they_are":   {Raw(`{"a": 1}`), 200, `{"a": 1}`, "application/json"},
		"writes_an_empty_object":         {Empty{}, 200, `{}`, "application/json"},
		"writes_a_page":                  {Page{"text/html; charset=utf-8", []byte("<p>")}, 200, `<p>`, "text/html; charset=utf-8"},
		"takes_the_status_of_an_answer":  {Answer{Status: 202, Body: greeting{"x"}}, 202, `{"hello":"x"}`, "application/json"},
		"sends_no_body_where_none_is":    {Answer{Status: 302, Header: http.Header{"Location": {"/x"}}}, 302, ``, ""},
		"lets_an_answer_print_itself":    {printed{}, 200, `[1,2]`, "application/json"},
		"takes_the_status_of_a_value":    {teapot{}, 418, `{}`, "application/json"},
		"sends_a_length_with_long_bodys": {Raw(`"` + strings.Repeat("x", 3000) + `"`), 200, `"` + strings.Repeat("x", 3000) + `"`, "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, _ := testMux(t, Options{Instance: "one"}, get("GET", "/x", func(*http.Request) (any, error) { return c.value, nil }))
			w := ask(m, "GET", "/x", "")
			if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Content-Type") != c.kind {
				t.Errorf("got %d %q %q", w.Code, w.Body, w.Header().Get("Content-Type"))
			}
			if w.Header().Get("X-Stoa-Instance") != "one" {
				t.Error("no X-Stoa-Instance")
			}
		})
	}
}

type printed struct{}

func (printed) AppendJSON(dst []byte) ([]byte, error) { return append(dst, "[1,2]"...), nil }

type teapot struct{}

func (teapot) HTTPStatus() int { return 418 }

// Each case goes through the same mux; every answer must carry the headers.
func TestEveryAnswerCarriesCORSHeaders(t *testing.T) {
	t.Parallel()
	m, _ := testMux(t, Options{},
		get("GET", "/fine", func(*http.Request) (any, error) { return Empty{}, nil }),
		get("GET", "/refused", func(*http.Request) (any, error) { return nil, mxerr.Forbidden("no") }),
		get("GET", "/fault", func(*http.Request) (any, error) { return nil, errors.New("disk") }),
		get("GET", "/panic", func(*http.Request) (any, error) { panic("boom") }),
		get("POST", "/body", func(r *http.Request) (any, error) { return Empty{}, ReadJSON(r, &struct{}{}) }),
	)
	for _, c := range []struct {
		method, path, body string
		status             int
		errcode            string
	}{
		{"GET", "/fine", "", 200, ""},
		{"HEAD", "/fine", "", 200, ""},
		{"GET", "/refused", "", 403, "M_FORBIDDEN"},
		{"GET", "/fault", "", 500, "M_UNKNOWN"},
		{"GET", "/panic", "", 500, "M_UNKNOWN"},
		{"POST", "/body", "x", 400, "M_NOT_JSON"},
		{"GET", "/nowhere", "", 404, "M_UNRECOGNIZED"},
		{"GET", "//fine", "", 404, "M_UNRECOGNIZED"},
		{"DELETE", "/fine", "", 405, "M_UNRECOGNIZED"},
		{"OPTIONS", "/fine", "", 204, ""},
		{"OPTIONS", "/nowhere", "", 204, ""},
	} {
		w := ask(m, c.method, c.path, c.body)
		if w.Code != c.status {
			t.Errorf("%s %s: status %d, want %d", c.method, c.path, w.Code, c.status)
		}
		if c.errcode != "" && errcode(t, w) != c.errcode {
			t.Errorf("%s %s: body %s, want %s", c.method, c.path, w.Body, c.errcode)
		}
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin":  "*",
			"Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
			"Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization",
		} {
			if got := w.Header().Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s %s: %s is %q", c.method, c.path, name, got)
			}
		}
	}
}

func TestPathValues(t *testing.T) {
	t.Parallel()
	m, _ := testMux(t, Options{},
		get("GET", "/rooms/{roomId}/state/{eventType}/{stateKey}", echo("stateKey")),
		get("GET", "/rooms/{roomId}/state/{eventType}/", echo("eventType")),
		get("GET", "/rooms/{roomId}/state/{eventType}", echo("eventType")),
		get("GET", "/rooms/{roomId}/members", echo("roomId")),
		get("GET", "/rooms/list/{id}", echo("id")),
		get("GET", "/files/{path...}", echo("path")),
	)
	for name, c := range map[string]struct {
		path   string
		status int
		want   string
	}{
		"decodes_an_escaped_slash":             {"/rooms/!a%2Fb:c/members", 200, "!a/b:c"},
		"decodes_once_only":                    {"/rooms/%2525/members", 200, "%25"},
		"keeps_a_plus":                         {"/rooms/a+b/members", 200, "a+b"},
		"takes_dots_as_a_value":                {"/rooms/a/state/t/..", 200, ".."},
		"matches_an_empty_state_key":           {"/rooms/a/state/m.room.name/", 200, "m.room.name"},
		"matches_without_the_state_key":        {"/rooms/a/state/m.room.name", 200, "m.room.name"},
		"refuses_an_empty_value":               {"/rooms//members", 404, ""},
		"prefers_a_literal_but_can_turn_back":  {"/rooms/list/members", 200, "members"},
		"turns_back_to_a_value":                {"/rooms/list/state/t", 200, "t"},
		"gives_the_rest_of_the_path":           {"/files/a/b%20c", 200, "a/b c"},
		"gives_an_empty_rest":                  {"/files/", 200, ""},
		"refuses_what_is_not_utf8":             {"/rooms/%FF/members", 400, ""},
		"refuses_nul":                          {"/rooms/a%00b/members", 400, ""},
		"refuses_a_query_that_is_not_utf8":     {"/rooms/a/members?x=%FF", 400, ""},
		"refuses_a_longer_path":                {"/rooms/a/members/b", 404, ""},
		"matches_a_literal_written_as_escapes": {"/%72ooms/a/members", 200, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ask(m, "GET", c.path, "")
			if w.Code != c.status {
				t.Fatalf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			var got greeting
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if c.status == 200 && got.Hello != c.want {
				t.Errorf("got %q, want %q", got.Hello, c.want)
			}
		})
	}
}

func TestNewMux(t *testing.T) {
	t.Parallel()
	handler := Adapt(func(*http.Request) (Empty, error) { return Empty{}, nil })
	for name, routes := range map[string][]Route{
		"refuses_a_route_twice":          {{Method: "GET", Pattern: "/a/{b}", Handler: handler}, {Method: "GET", Pattern: "/a/{c}", Handler: handler}},
		"refuses_a_rest_in_the_middle":   {{Method: "GET", Pattern: "/{a...}/b", Handler: handler}},
		"refuses_an_unclosed_value":      {{Method: "GET", Pattern: "/{a", Handler: handler}},
		"refuses_a_pattern_without_root": {{Method: "GET", Pattern: "a", Handler: handler}},
		"refuses_a_missing_handler":      {{Method: "GET", Pattern: "/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := NewMux(Options{}, routes); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	secret := errors.New("password of the database")

	t.Run("say_a_request_id_and_log_the_chain", func(t *testing.T) {
		t.Parallel()
		m, log := testMux(t, Options{}, get("GET", "/x", func(*http.Request) (any, error) { return nil, secret }))
		w := ask(m, "GET", "/x", "")
		id := w.Header().Get("X-Request-Id")
		if id == "" || !strings.Contains(w.Body.String(), id) || !strings.Contains(log.String(), id) {
			t.Errorf("id %q, body %s, log %s", id, w.Body, log)
		}
		if strings.Contains(w.Body.String(), "password") || !strings.Contains(log.String(), "password") {
			t.Errorf("body %s, log %s", w.Body, log)
		}
	})
	t.Run("keep_the_cause_of_a_refusal_inside", func(t *testing.T) {
		t.Parallel()
		m, log := testMux(t, Options{}, get("GET", "/x", func(*http.Request) (any, error) { return nil, mxerr.NotFound("gone").Because(secret) }))
		w := ask(m, "GET", "/x", "")
		if w.Code != 404 || strings.Contains(w.Body.String(), "password") || log.Len() > 0 {
			t.Errorf("%d %s, log %s", w.Code, w.Body, log)
		}
	})
	t.Run("log_the_stack_of_a_panic", func(t *testing.T) {
		t.Parallel()
		m, log := testMux(t, Options{}, get("GET", "/x", func(*http.Request) (any, error) { panic("boom") }))
		ask(m, "GET", "/x", "")
		if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "httpkit_test.go") {
			t.Errorf("log %s", log)
		}
	})
	t.Run("are_translated_where_a_layer_has_a_name_for_them", func(t *testing.T) {
		t.Parallel()
		busy := errors.New("busy")
		opts := Options{Translate: func(err error) *mxerr.Error {
			if errors.Is(err, busy) {
				return mxerr.LimitExceeded(1500 * time.Millisecond).WithStatus(503)
			}
			return nil
		}}
		m, _ := testMux(t, opts, get("GET", "/x", func(*http.Request) (any, error) { return nil, busy }))
		w := ask(m, "GET", "/x", "")
		if w.Code != 503 || w.Header().Get("Retry-After") != "2" || !strings.Contains(w.Body.String(), `"retry_after_ms":1500`) {
			t.Errorf("%d %s %s", w.Code, w.Header(), w.Body)
		}
	})
	t.Run("are_none_when_the_client_went_away", func(t *testing.T) {
		t.Parallel()
		m, log := testMux(t, Options{}, get("GET", "/x", func(r *http.Request) (any, error) { return nil, r.Context().Err() }))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		m.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/x", nil))
		if log.Len() > 0 {
			t.Errorf("log %s", log)
		}
	})
	t.Run("carry_no_errcode_where_none_is_given", func(t *testing.T) {
		t.Parallel()
		m, _ := testMux(t, Options{}, get("GET", "/x", func(*http.Request) (any, error) {
			return nil, &mxerr.Error{Status: 401, Extra: map[string]any{"session": "s"}}
		}))
		if w := ask(m, "GET", "/x", ""); w.Code != 401 || w.Body.String() != `{"session":"s"}` {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

func TestReadJSON(t *testing.T) {
	t.Parallel()
	type body struct {
		Name string   `json:"name"`
		List []string `json:"list"`
	}
	m, _ := testMux(t, Options{},
		get("POST", "/must", func(r *http.Request) (any, error) {
			var b body
			return &b, ReadJSON(r, &b)
		}),
		get("POST", "/may", func(r *http.Request) (any, error) {
			var b body
			return &b, ReadOptionalJSON(r, &b)
		}))
	for name, c := range map[string]struct {
		path, body string
		status     int
		errcode    string
	}{
		"takes_an_object":                      {"/must", ` {"name":"a"}`, 200, ""},
		"refuses_no_body":                      {"/must", ``, 400, "M_NOT_JSON"},
		"takes_no_body_where_that_is_allowed":  {"/may", ``, 200, ""},
		"refuses_what_is_not_json":             {"/may", `{"name":`, 400, "M_NOT_JSON"},
		"refuses_bytes_that_are_not_utf8":      {"/must", "{\"name\":\"\xff\"}", 400, "M_NOT_JSON"},
		"refuses_two_values":                   {"/must", `{}{}`, 400, "M_NOT_JSON"},
		"refuses_a_list":                       {"/must", `[]`, 400, "M_BAD_JSON"},
		"refuses_null":                         {"/must", `null`, 400, "M_BAD_JSON"},
		"refuses_a_wrong_type":                 {"/must", `{"name":1}`, 400, "M_BAD_JSON"},
		"refuses_a_wrong_type_further_in":      {"/must", `{"list":["a",{}]}`, 400, "M_BAD_JSON"},
		"refuses_a_key_twice":                  {"/must", `{"name":"a","name":"b"}`, 400, "M_BAD_JSON"},
		"refuses_what_is_nested_without_bound": {"/must", `{"a":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`, 400, "M_BAD_JSON"},
		"refuses_a_body_that_is_too_large":     {"/must", `{"name":"` + strings.Repeat("x", MaxBody) + `"}`, 413, "M_TOO_LARGE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ask(m, "POST", c.path, c.body)
			if w.Code != c.status || (c.errcode != "" && errcode(t, w) != c.errcode) {
				t.Errorf("got %d %.200s", w.Code, w.Body)
			}
		})
	}
	t.Run("refuses_too_much_when_no_length_is_declared", func(t *testing.T) {
		t.Parallel()
		r := httptest.NewRequest("POST", "/must", io.MultiReader(strings.NewReader(`"`+strings.Repeat("x", MaxBody)+`"`)))
		r.ContentLength = -1
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if w.Code != 413 {
			t.Errorf("got %d %.200s", w.Code, w.Body)
		}
	})
}

func TestQuery(t *testing.T) {
	t.Parallel()
	q, err := ParseQuery(httptest.NewRequest("GET", "/?limit=20&huge=99999&bad=x&dir=f&on=true&name=a%20b+c&via=one&via=two&empty=", nil))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := q.Int("limit", 5, 1, 50); n != 20 || err != nil {
		t.Error("Int", n, err)
	}
	if n, err := q.Int("absent", 5, 1, 50); n != 5 || err != nil {
		t.Error("Int absent", n, err)
	}
	if _, err := q.Int("huge", 5, 1, 50); !mxerr.Is(err, mxerr.CodeInvalidParam) {
		t.Error("Int out of range", err)
	}
	if n, err := q.Limit("huge", 10, 100); n != 100 || err != nil {
		t.Error("Limit", n, err)
	}
	if _, err := q.Limit("bad", 10, 100); !mxerr.Is(err, mxerr.CodeInvalidParam) {
		t.Error("Limit bad", err)
	}
	if s, err := q.Enum("dir", "b", "f"); s != "f" || err != nil {
		t.Error("Enum", s, err)
	}
	if _, err := q.Enum("bad", "b", "f"); !mxerr.Is(err, mxerr.CodeInvalidParam) {
		t.Error("Enum bad", err)
	}
	if b, err := q.Bool("on", false); !b || err != nil {
		t.Error("Bool", b, err)
	}
	if _, err := q.Bool("bad", false); !mxerr.Is(err, mxerr.CodeInvalidParam) {
		t.Error("Bool bad", err)
	}
	if q.Get("name") != "a b c" || !q.Has("empty") || q.Has("none") || len(q.All("via")) != 2 {
		t.Error("values", q.Get("name"), q.All("via"))
	}
	if _, err := q.Required("empty"); !mxerr.Is(err, mxerr.CodeMissingParam) {
		t.Error("Required", err)
	}
	for _, raw := range []string{"a=%zz", "a=%ff", "%00=b"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = raw
		if _, err := ParseQuery(r); !mxerr.Is(err, mxerr.CodeInvalidParam) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	opts := Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
	m, _ := testMux(t, opts, get("GET", "/", func(r *http.Request) (any, error) {
		return greeting{ClientAddress(r).String()}, nil
	}))
	for name, c := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"is_the_peer":                                    {"192.0.2.1:99", nil, "192.0.2.1"},
		"is_the_peer_if_it_is_not_trusted":               {"192.0.2.1:99", []string{"198.51.100.7"}, "192.0.2.1"},
		"is_what_a_trusted_proxy_forwards":               {"10.1.1.1:99", []string{"198.51.100.7"}, "198.51.100.7"},
		"is_the_last_that_is_not_a_proxy":                {"10.1.1.1:99", []string{"203.0.113.9, 198.51.100.7, 10.2.2.2"}, "198.51.100.7"},
		"reads_several_headers":                          {"10.1.1.1:99", []string{"198.51.100.7", "10.2.2.2"}, "198.51.100.7"},
		"stops_at_what_it_can_not_read":                  {"10.1.1.1:99", []string{"198.51.100.7, nonsense, 10.2.2.2"}, "10.2.2.2"},
		"takes_ipv6_with_a_port":                         {"[::1]:99", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		"trusts_a_unix_socket":                           {"@", []string{"198.51.100.7"}, "198.51.100.7"},
		"is_not_what_a_client_forged_before_the_proxies": {"10.1.1.1:99", []string{"127.0.0.1", "198.51.100.7, 10.3.3.3", "10.2.2.2"}, "198.51.100.7"},
		"is_not_what_a_hop_in_between_claims":            {"10.1.1.1:99", []string{"203.0.113.9, 192.0.2.1, 10.2.2.2"}, "192.0.2.1"},
		"is_the_first_if_all_are_proxies":                {"10.1.1.1:99", []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3"},
		"goes_through_proxies_of_ipv6_and_ipv4":          {"[::1]:99", []string{"2001:db8::1, 10.2.2.2, ::1"}, "2001:db8::1"},
		"takes_an_ipv4_address_written_as_ipv6":          {"10.1.1.1:99", []string{"198.51.100.7, ::ffff:10.2.2.2"}, "198.51.100.7"},
		"trusts_an_ipv4_proxy_over_ipv6":                 {"[::ffff:10.1.1.1]:99", []string{"198.51.100.7"}, "198.51.100.7"},
		"does_not_trust_the_neighbour_of_a_proxy":        {"[::2]:99", []string{"198.51.100.7"}, "::2"},
		"takes_nothing_from_an_empty_header":             {"10.1.1.1:99", []string{""}, "10.1.1.1"},
		"takes_nothing_from_empty_entries":               {"10.1.1.1:99", []string{"198.51.100.7, ,"}, "10.1.1.1"},
		"takes_no_names":                                 {"10.1.1.1:99", []string{"unknown"}, "10.1.1.1"},
		"takes_no_addresses_with_more_behind":            {"10.1.1.1:99", []string{"198.51.100.7 evil"}, "10.1.1.1"},
		"is_plain_for_an_ipv4_address_over_ipv6":         {"[::ffff:192.0.2.1]:99", nil, "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = c.peer
			r.Header["X-Forwarded-For"] = c.forwarded
			w := httptest.NewRecorder()
			m.ServeHTTP(w, r)
			if want := `{"hello":"` + c.want + `"}`; w.Body.String() != want {
				t.Errorf("got %s, want %s", w.Body, want)
			}
		})
	}
	if a, b := AddressKey(netip.MustParseAddr("2001:db8::1")), AddressKey(netip.MustParseAddr("2001:db8::2:3")); a != b {
		t.Errorf("neighbours of one /64 count apart: %s, %s", a, b)
	}
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }

	l := NewLimiter(2, 3, clock)
	for range 3 {
		if err := l.Take("a"); err != nil {
			t.Fatal("refused within the burst:", err)
		}
	}
	err := l.Take("a")
	if e, ok := mxerr.As(err); !ok || e.Code != mxerr.CodeLimitExceeded || e.RetryAfter != 500*time.Millisecond {
		t.Fatal("after the burst:", err)
	}
	if err := l.Take("b"); err != nil {
		t.Fatal("another key:", err)
	}
	now = now.Add(500 * time.Millisecond)
	if err := l.Take("a"); err != nil {
		t.Fatal("after the stated wait:", err)
	}
	if err := l.Take("a"); err == nil {
		t.Fatal("one token gave two requests")
	}
	if err := (*Limiter)(nil).Take("a"); err != nil {
		t.Fatal("no limiter:", err)
	}
}

func TestLimiterIsBounded(t *testing.T) {
	t.Parallel()
	l := NewLimiter(1, 1, func() time.Time { return time.Unix(1000, 0) })
	if err := l.Take("kept"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxKeys {
		if err := l.Take(string(rune('a'+i%26)) + time.Duration(i).String()); err != nil {
			t.Fatal(err)
		}
		if i == maxKeys && l.Take("kept") == nil {
			t.Fatal("a key of the last generation was forgotten")
		}
	}
	if n := len(l.young) + len(l.old); n > 2*maxKeys {
		t.Errorf("%d keys", n)
	}
}

// A full bucket is as good as none. Kept ones would add up: an attacker can name new keys
// all the time.
func TestLimiterDropsFullBuckets(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	l := NewLimiter(1, 2, func() time.Time { return now })
	for i := range 20 * fewKeys {
		if err := l.Take(fmt.Sprint("short ", i)); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(sweepEvery)
	if err := errors.Join(l.Take("kept"), l.Take("kept")); err != nil {
		t.Fatal(err)
	}
	if n := len(l.young) + len(l.old); n != 1 {
		t.Errorf("%d buckets are kept after all but one are full", n)
	}
	if l.Take("kept") == nil {
		t.Error("the bucket in use was dropped")
	}
}

func TestAddressLimitsApplyByClass(t *testing.T) {
	t.Parallel()
	fine := func(*http.Request) (any, error) { return Empty{}, nil }
	login, plain := get("GET", "/login", fine), get("GET", "/plain", fine)
	login.Limit = LimitLogin
	m, _ := testMux(t, Options{AddressLimits: map[Limit]*Limiter{LimitLogin: NewLimiter(0.01, 1, nil)}}, login, plain)
	if w := ask(m, "GET", "/login", ""); w.Code != 200 {
		t.Error("first", w.Code)
	}
	w := ask(m, "GET", "/login", "")
	if w.Code != 429 || errcode(t, w) != "M_LIMIT_EXCEEDED" || w.Header().Get("Retry-After") == "" {
		t.Error("second", w.Code, w.Header(), w.Body)
	}
	for range 5 {
		if w := ask(m, "GET", "/plain", ""); w.Code != 200 {
			t.Error("plain", w.Code)
		}
	}
}

func TestInFlightLimit(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	m, _ := testMux(t, Options{InFlight: map[Limit]int{LimitPlain: 1}}, get("GET", "/", func(*http.Request) (any, error) {
		entered <- struct{}{}
		<-leave
		return Empty{}, nil
	}))
	done := make(chan int)
	go func() { done <- ask(m, "GET", "/", "").Code }()
	<-entered
	if w := ask(m, "GET", "/", ""); w.Code != 503 || errcode(t, w) != "M_LIMIT_EXCEEDED" {
		t.Error("one too many:", w.Code, w.Body)
	}
	leave <- struct{}{}
	if code := <-done; code != 200 {
		t.Error("first:", code)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m, _ := testMux(t, Options{Registerer: reg}, get("GET", "/rooms/{roomId}", echo("roomId")))
	ask(m, "GET", "/rooms/a", "")
	ask(m, "GET", "/rooms/b", "")
	ask(m, "GET", "/nowhere", "")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			key := f.GetName()
			for _, l := range metric.GetLabel() {
				key += " " + l.GetValue()
			}
			counted[key] = metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	for key, want := range map[string]float64{
		"stoa_httpkit_requests_total GET /rooms/{roomId} 200": 2,
		"stoa_httpkit_requests_total  unknown 404":            1,
		"stoa_httpkit_request_seconds GET /rooms/{roomId}":    2,
	} {
		if counted[key] != want {
			t.Errorf("%s: %v, want %v (of %v)", key, counted[key], want, counted)
		}
	}
}
