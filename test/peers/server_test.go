package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"stoa/test/kit"
)

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
	if err := kit.Build(filepath.Join("..", ".."), binary); err != nil {
		return 0, err
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

// server is the server under test. Its port and data outlive a kill and a restart.
type server struct {
	*kit.Server
	t *testing.T
}

func startServer(t *testing.T) *server {
	t.Helper()
	k, err := kit.NewServer("server", binary, t.TempDir(), "STOA_SERVER_NAME=stoa.test", "STOA_REGISTRATION=open")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{k, t}
	s.start()
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the server's log ends:\n%s", s.Log())
		}
	})
	return s
}

func (s *server) start() {
	s.t.Helper()
	if err := s.Start(); err != nil {
		s.t.Fatalf("start the server: %v", err)
	}
}
