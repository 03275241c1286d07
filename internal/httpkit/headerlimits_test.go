package httpkit

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// headersSettle waits until what has arrived is as wanted.
func headersSettle(t *testing.T, all *HeaderLimits, what string, done func() bool) {
	t.Helper()
	for range 10_000 {
		all.mu.Lock()
		ok := done()
		all.mu.Unlock()
		if ok {
			return
		}
		time.Sleep(time.Millisecond) // nothing announces it
	}
	t.Fatalf("%s: %d bytes, %d addresses", what, all.used, len(all.of))
}

func longHeader(bytes int, rest string) string {
	return "GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + strings.Repeat("x", bytes) + rest
}

const get1 = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func TestHeaderLimits_bound_incomplete_headers_in_bytes(t *testing.T) {
	t.Parallel()
	m, _ := testMux(t, Options{}, Route{Method: "GET", Pattern: "/", Handler: Adapt(unrecognized)})
	all := NewHeaderLimits(1<<20, nil)
	addr := serveWith(t, "127.0.0.1:0", m, ServerOptions{HeaderLimits: all}).Addr()
	var open []net.Conn
	for range 50 {
		open = append(open, sendFrom(t, "127.0.0.1", addr, longHeader(40_000, "")))
	}
	headersSettle(t, all, "50 headers of 40 KB", func() bool {
		a := all.of["127.0.0.1"]
		return a != nil && uint64(a.connections)+all.refused[1].Load() == 50 && all.used > 400_000
	})
	if all.used > all.budget/2 {
		t.Errorf("one address has %d bytes of %d", all.used, all.budget)
	}
	if status := askFrom(t, "127.0.0.2", addr, longHeader(60_000, "\r\n\r\n")); status != 404 {
		t.Errorf("a large header of another address: %d", status)
	}
	// The second request of a connection counts like the first.
	kept := sendFrom(t, "127.0.0.3", addr, get1)
	if _, err := kept.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(kept, longHeader(40_000, "")); err != nil {
		t.Fatal(err)
	}
	headersSettle(t, all, "a second header", func() bool { return all.of["127.0.0.3"] != nil && all.of["127.0.0.3"].bytes > 30_000 })
	for _, c := range append(open, kept) {
		_ = c.Close() // the server may have closed it
	}
	headersSettle(t, all, "all have gone", func() bool { return all.used == 0 && len(all.of) == 0 })
}

func TestHeaderLimits_bound_the_new_connections_of_an_address(t *testing.T) {
	t.Parallel()
	m, _ := testMux(t, Options{}, Route{Method: "GET", Pattern: "/", Handler: Adapt(unrecognized)})
	all := NewHeaderLimits(0, []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")})
	all.most = 4
	addr := serveWith(t, "127.0.0.1:0", m, ServerOptions{HeaderLimits: all}).Addr()
	// Connections with a request don't count.
	for range 10 {
		if status := askFrom(t, "127.0.0.1", addr, get1); status != 404 {
			t.Fatal(status)
		}
	}
	for range 10 {
		sendFrom(t, "127.0.0.1", addr, "GET / HT")
	}
	headersSettle(t, all, "10 without a request", func() bool {
		return all.of["127.0.0.1"] != nil && all.of["127.0.0.1"].connections == 4 && all.refused[0].Load() == 6
	})
	if status := askFrom(t, "127.0.0.2", addr, get1); status != 404 {
		t.Errorf("another address: %d", status)
	}
	for range 10 {
		sendFrom(t, "127.0.0.9", addr, "GET / HT")
	}
	if status := askFrom(t, "127.0.0.9", addr, get1); status != 404 {
		t.Errorf("a trusted proxy: %d", status)
	}
}
