// Package bustest starts real Redis servers for tests.
//
// It owns the server and its temporary directory, which it removes at the end of the
// test. It never skips a test: without redis-server the test fails and names the package
// to install.
//
// The invariant: each test has its own server, which it may stop.
package bustest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Redis is a server on a Unix socket.
type Redis struct {
	// URL is for the setting redis.
	URL string

	t            testing.TB
	program, dir string
	server       *exec.Cmd // nil if it is not running
}

// NewRedis starts a server, and stops it at the end of the test. Clients must retry until
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

// Start starts it again.
func (r *Redis) Start() {
	r.t.Helper()
	r.server = exec.Command(r.program, "--port", "0", "--unixsocket", filepath.Join(r.dir, "s"), "--save", "", "--dir", r.dir)
	if err := r.server.Start(); err != nil {
		r.t.Fatal(err)
	}
}

// Stop kills it if it is running.
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
