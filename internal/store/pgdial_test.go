package store

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestPgDialer promises that a database which the network does not lead to is
// waited for by one, and not by each who comes, and is tried again soon.
func TestPgDialer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		err      error
		notified bool // the next is told at once
	}{
		{"tells_who_comes_after_a_timeout", &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}, true},
		{"tells_who_comes_when_no_route_leads_there", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}, true},
		{"asks_again_at_once_when_refused", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				asked := map[string]int{}
				d := newPgDialer()
				d.dial = func(_ context.Context, _, addr string) (net.Conn, error) { asked[addr]++; return nil, tc.err }
				connect := func(addr string) {
					if _, err := d.DialContext(t.Context(), "tcp", addr); !errors.Is(err, tc.err) {
						t.Errorf("%v, want %v", err, tc.err)
					}
				}
				connect("a")
				connect("a")
				connect("b")
				if notified := asked["a"] == 1; notified != tc.notified || asked["b"] != 1 {
					t.Errorf("asked %v", asked)
				}
				before := asked["a"]
				time.Sleep(pgAgain)
				connect("a")
				if asked["a"] != before+1 {
					t.Error("was not asked again")
				}
			})
		})
	}
	t.Run("keeps_nothing_of_who_gave_up", func(t *testing.T) {
		t.Parallel()
		d, asked := newPgDialer(), 0
		d.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			asked++
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 2 {
			if _, err := d.DialContext(ctx, "tcp", "a"); err == nil {
				t.Error("connected")
			}
		}
		if asked != 2 {
			t.Errorf("asked %d times", asked)
		}
	})
}
