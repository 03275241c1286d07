// Package bustest starts real Redis servers for tests of what speaks over them.
//
// It owns the server and its temporary folder, which end with the test. It never
// skips: without redis-server a test fails and names the package to install. The
// invariant that matters: each test has a server of its own, which it may stop.
package bustest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Redis is a server on a Unix socket.
type Redis struct {
	// URL is for STOA_REDIS.
	URL string

	t            testing.TB
	program, dir string
	server       *exec.Cmd // nil if it does not run
}

// NewRedis starts a server, which ends with the test. Who connects has to try until
// it listens.
func NewRedis(t testing.TB) *Redis {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("%v: install the Debian package redis-server", err)
	}
	dir, err := os.MkdirTemp("", "stoa-redis-") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	r := &Redis{URL: "unix://" + filepath.Join(dir, "s"), t: t, program: program, dir: dir}
	t.Cleanup(func() {
		r.Stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	r.Start()
	return r
}

// Start starts it anew.
func (r *Redis) Start() {
	r.t.Helper()
	r.server = exec.Command(r.program, "--port", "0", "--unixsocket", filepath.Join(r.dir, "s"), "--save", "", "--dir", r.dir)
	if err := r.server.Start(); err != nil {
		r.t.Fatal(err)
	}
}

// Stop kills it, if it runs.
func (r *Redis) Stop() {
	r.t.Helper()
	if r.server == nil {
		return
	}
	if err := r.server.Process.Kill(); err != nil {
		r.t.Error(err)
	}
	_ = r.server.Wait() // it was killed
	r.server = nil
}
