package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startWithin is how long a server may take to answer after its start; the
// machine may be busy with other tests.
const startWithin = 30 * time.Second

var (
	binary  string // the server under test
	node    string // the Node that the js package brings
	nodeDir = "js"
)

func TestMain(m *testing.M) {
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// prepareAndRun builds the server and installs the JavaScript client before
// any test runs: both are the same for all tests.
func prepareAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "stoa-peers")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "stoa")
	build := exec.Command("go", "build", "-o", binary, "./cmd/stoa")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the server: %w\n%s", err, out)
	}
	if node, err = installNode(); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// installNode brings matrix-js-sdk and Node 22 from the lock file, once.
func installNode() (string, error) {
	find := func() (string, error) {
		found, err := filepath.Glob(filepath.Join(nodeDir, "node_modules", "node-linux-*", "bin", "node"))
		if err != nil || len(found) == 0 {
			return "", errors.Join(err, errors.New("js/node_modules has no Node for this machine"))
		}
		return filepath.Abs(found[0])
	}
	_, sdkErr := os.Stat(filepath.Join(nodeDir, "node_modules", "matrix-js-sdk", "package.json"))
	if path, err := find(); err == nil && sdkErr == nil {
		return path, nil
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = nodeDir
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci in test/peers/js: %w (Debian packages: nodejs npm)\n%s", err, out)
	}
	return find()
}

// server is one process of the server under test. Its port and data outlive a
// kill and a restart.
type server struct {
	t    *testing.T
	dir  string
	addr string

	mu  sync.Mutex
	cmd *exec.Cmd
	log lockedBuffer
}

func startServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), addr: freeAddress(t)}
	s.start()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log.String())
		}
	})
	return s
}

func (s *server) url() string { return "http://" + s.addr }

func (s *server) start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := exec.Command(binary, "serve")
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(),
		"STOA_SERVER_NAME=stoa.test", "STOA_CLIENT_LISTEN="+s.addr, "STOA_DATA_DIR="+s.dir,
		"STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off")
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("start the server: %v", err)
	}
	s.cmd = cmd
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, "GET", s.url()+"/_matrix/client/versions", nil)
		if err != nil {
			s.t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("the server did not answer within %v; its log:\n%s", startWithin, s.log.String())
		case <-time.After(20 * time.Millisecond): // nothing announces an open port: ask again
		}
	}
}

// kill ends the process as a power cut would: without a word to it.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("kill the server: %v", err)
	}
	s.cmd.Wait() // "signal: killed" is what we asked for
	s.cmd = nil
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// lockedBuffer collects a process's output while the test may read it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
