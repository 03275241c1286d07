package httpkit

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"stoa/matrix/mxerr"
)

func TestUserLimits(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }
	t.Run("refuse_above_the_burst_and_let_others_pass", func(t *testing.T) {
		t.Parallel()
		u := NewUserLimits(false, clock)
		for i := range userLimits[RateCreate].burst {
			if err := u.Take(RateCreate, "eve", 1); err != nil {
				t.Fatal(i, err)
			}
		}
		if err := u.Take(RateCreate, "eve", 1); !mxerr.Is(err, mxerr.CodeLimitExceeded) {
			t.Errorf("one more: %v", err)
		}
		if err := u.Take(RateCreate, "ann", 1); err != nil {
			t.Errorf("somebody else: %v", err)
		}
	})
	t.Run("count_bytes", func(t *testing.T) {
		t.Parallel()
		u := NewUserLimits(false, clock)
		sent := 0
		for u.request(RateSend, "eve", 60_000) == nil {
			sent++
		}
		if want := userLimits[RateSendBytes].burst / 60_000; sent != want {
			t.Errorf("%d events of 60 KB passed, want %d", sent, want)
		}
	})
	t.Run("only_count_in_report_mode", func(t *testing.T) {
		t.Parallel()
		u := NewUserLimits(true, clock)
		for range userLimits[RateSearch].burst + 5 {
			if err := u.Take(RateSearch, "eve", 1); err != nil {
				t.Fatal(err)
			}
		}
		if n := u.limited[RateSearch].Load(); n != 5 {
			t.Errorf("%d were counted", n)
		}
	})
	t.Run("are_shared_with_other_instances", func(t *testing.T) {
		t.Parallel()
		a, b := NewUserLimits(false, clock), NewUserLimits(false, clock)
		for i := range 500 {
			if err := a.Take(RateWrite, fmt.Sprintf("@user%d:stoa.test", i), 10); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Take(RateJoin, "@eve:stoa.test", userLimits[RateJoin].burst); err != nil {
			t.Fatal(err)
		}
		a.share(func(text []byte) {
			if len(text) > maxShared {
				t.Errorf("a message of %d bytes", len(text))
			}
			b.Hear(text)
		})
		b.Hear([]byte("99 1 x\n0 1 x\n-1\nx y z\n3 -4 x\n"))
		if err := b.Take(RateJoin, "@eve:stoa.test", 1); err == nil {
			t.Error("the other instance knows nothing of it")
		}
		if err := b.Take(RateWrite, "@user499:stoa.test", userLimits[RateWrite].burst-9); err == nil {
			t.Error("the last of many users was not told")
		}
		a.share(func([]byte) { t.Error("nothing new was told") })
	})
	t.Run("are_asked_by_a_mux_before_the_handler", func(t *testing.T) {
		t.Parallel()
		called := 0
		r := get("POST", "/", func(*http.Request) (any, error) { called++; return Empty{}, nil })
		r.Token, r.Rate = true, RateCreate
		m, _ := testMux(t, Options{
			UserLimits: NewUserLimits(false, clock), Identify: func(*http.Request) (string, error) { return "eve", nil },
		}, r)
		for range userLimits[RateCreate].burst {
			if w := ask(m, "POST", "/", "{}"); w.Code != 200 {
				t.Fatal(w.Code)
			}
		}
		if w := ask(m, "POST", "/", "{}"); w.Code != 429 || w.Header().Get("Retry-After") == "" || called != userLimits[RateCreate].burst {
			t.Errorf("one more: %d %v, the handler ran %d times", w.Code, w.Header(), called)
		}
	})
}

// The page for operators has the table of limits as it is.
func TestUserLimits_are_in_the_docs(t *testing.T) {
	t.Parallel()
	const file = "../../docs/operations.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range userLimits[1:] {
		row := fmt.Sprintf("| `%s` | %s | %s | %s | %s |", l.name, l.what, amount(float64(l.burst)), amount(l.perSecond), l.reason)
		if !strings.Contains(string(page), row) {
			t.Errorf("%s does not have the row\n%s", file, row)
		}
	}
	for _, l := range addressLimits {
		row := fmt.Sprintf("| %s | %d | %s | %s |", l.what, l.burst, amount(l.perSecond), l.reason)
		if !strings.Contains(string(page), row) {
			t.Errorf("%s does not have the row\n%s", file, row)
		}
	}
}

func amount(n float64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%g MiB", n/(1<<20))
	case n >= 16<<10:
		return fmt.Sprintf("%g KiB", n/(1<<10))
	}
	return strconv.FormatFloat(n, 'g', -1, 64)
}

// People with an account who share an address don't count as strangers there.
func TestLookups_count_per_user(t *testing.T) {
	t.Parallel()
	r := get("GET", "/", func(*http.Request) (any, error) { return Empty{}, nil })
	r.Limit, r.Rate = LimitLookup, RateLookup
	clock := func() time.Time { return time.Unix(1000, 0) }
	m, _ := testMux(t, Options{
		AddressLimits: map[Limit]*Limiter{LimitLookup: NewLimiter(1, 5, clock)},
		UserLimits:    NewUserLimits(false, clock),
		Identify: func(r *http.Request) (string, error) {
			if token := BearerToken(r); token != "bad" {
				return token, nil
			}
			return "", mxerr.UnknownToken(false)
		},
	}, r)
	passed := func(token string, n int) (passed int) {
		for range n {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "/", nil)
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			if m.ServeHTTP(w, r); w.Code == 200 {
				passed++
			}
		}
		return passed
	}
	if n := passed("", 20); n != 5 {
		t.Errorf("%d of a stranger passed", n)
	}
	if n := passed("bad", 20); n != 0 {
		t.Errorf("%d with a bad token passed", n)
	}
	if n := passed("ann", 500); n != 500 {
		t.Errorf("%d of 500 of a user passed", n)
	}
	if n, most := passed("eve", 2_000), userLimits[RateLookup].burst; n != most {
		t.Errorf("%d of a user passed, not %d", n, most)
	}
}

func TestReportLimits(t *testing.T) {
	t.Parallel()
	r := get("GET", "/", func(*http.Request) (any, error) { return Empty{}, nil })
	r.Limit = LimitLogin
	m, _ := testMux(t, Options{AddressLimits: map[Limit]*Limiter{LimitLogin: NewLimiter(0.001, 5, nil)}, ReportLimits: true}, r)
	for range 8 {
		if w := ask(m, "GET", "/", ""); w.Code != 200 {
			t.Fatal(w.Code)
		}
	}
	if n := m.limited[LimitLogin].Load(); n != 3 {
		t.Errorf("%d were counted", n)
	}
}

func TestNetworkKey(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"192.0.2.1", "192.0.2.250", "192.0.3.1"},
		{"::ffff:192.0.2.1", "192.0.2.250", "192.0.3.1"},
		{"2001:db8:1:1::1", "2001:db8:1:ffff::1", "2001:db8:2::1"},
	} {
		one, same, other := NetworkKey(netip.MustParseAddr(c[0])), NetworkKey(netip.MustParseAddr(c[1])), NetworkKey(netip.MustParseAddr(c[2]))
		if one != same || one == other {
			t.Errorf("%v: %s, %s, %s", c, one, same, other)
		}
	}
}
