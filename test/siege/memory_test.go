package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"stoa/test/kit"
)

// TestMemory plays attacks on the memory of the built server, which may take 256 MiB.
// It is told less, for what the Go runtime does not count. The server has no limits on what users do, so that the bounds in bytes alone must
// hold. A cgroup would also count the files of the server where they are in memory.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "stoa")
	if err := kit.Build("../..", binary); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"bodies", "answers", "states"} {
		t.Run(kind, func(t *testing.T) { // one after the other, so that each has the machine
			const limit = 256 << 20
			dir := t.TempDir()
			_, enemies, err := seed(t.Context(), filepath.Join(dir, "stoa.db"), 1000)
			if err != nil {
				t.Fatal(err)
			}
			server := startIn(t, binary, dir, "GOMEMLIMIT="+strconv.Itoa(limit/4*3))
			p := plan{Address: server.Listen, Kinds: []string{kind}, Accounts: enemies, Length: 8 * time.Second}
			ctx, cancel := context.WithTimeout(t.Context(), p.Length)
			defer cancel()
			done := make(chan struct{})
			s := &stats{}
			go func() {
				defer close(done)
				attacks[kind](ctx, p.attackers(s))
			}()
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for most, attacked := int64(0), true; attacked; {
				select {
				case <-done:
					attacked = false
					t.Logf("%s; at most %d MiB", s, most>>20)
				case <-server.Gone():
					t.Fatal(server.Ended())
				case <-tick.C:
					now, err := kit.Resident(server.PID())
					if most = max(most, now); err != nil || now > limit {
						t.Fatalf("%d MiB, %v", now>>20, err)
					}
				}
			}
			if err := kit.Answers(server.Listen, kit.Versions); err != nil {
				t.Error("after the attack:", err)
			}
		})
	}
	t.Run("the limit is that of the cgroup", func(t *testing.T) {
		const limit = 512 << 20
		bound, wrap := boundMemory("limit", limit)
		t.Cleanup(bound.remove)
		if bound.dir == "" {
			t.Skip(bound)
		}
		dir := t.TempDir()
		admin := filepath.Join(dir, "admin")
		startIn(t, binary, dir, "STOA_ADMIN_LISTEN=unix:"+admin, wrap...)
		if got := memoryLimit(t, admin); got < limit/100*89 || got > limit/100*91 {
			t.Errorf("of %d bytes (%s) the server takes %.0f as its limit", limit, bound, got)
		}
	})
}

// startIn starts a server in a folder, under a command.
func startIn(t *testing.T, binary, dir, setting string, wrap ...string) *kit.Server {
	t.Helper()
	server, err := kit.NewServer("stoa", binary, dir, setting)
	if err != nil {
		t.Fatal(err)
	}
	server.Wrap = wrap
	t.Cleanup(func() { server.Kill() })
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	return server
}

var memoryLimitPattern = regexp.MustCompile(`(?m)^go_gc_gomemlimit_bytes (\S+)$`)

// memoryLimit is the limit that the runtime of the server keeps to.
func memoryLimit(t *testing.T, admin string) float64 {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", admin)
	}}}
	defer c.CloseIdleConnections()
	res, err := c.Get("http://admin/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	line := memoryLimitPattern.FindSubmatch(text)
	if line == nil {
		t.Fatalf("%s", text)
	}
	n, err := strconv.ParseFloat(string(line[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
