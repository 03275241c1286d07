package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// startWithin bounds a start; the machine may be busy.
const startWithin = 30 * time.Second

// server is one process of the server. Its address and data outlive it.
type server struct {
	binary, dir, addr string
	environ           []string
	wrap              []string // a command to start it under

	mu  sync.Mutex // guards cmd, gone and log
	cmd *exec.Cmd
	// gone is closed when the process has ended.
	gone chan struct{}
	log  *lockedBuffer
}

func newServer(binary, dir string) (*server, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	return &server{binary: binary, dir: dir, addr: addr, log: &lockedBuffer{}, environ: append(os.Environ(),
		"STOA_SERVER_NAME=crash.test", "STOA_CLIENT_LISTEN="+addr, "STOA_DATA_DIR="+dir,
		"STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off", "STOA_LOG_LEVEL=info")}, nil
}

// start starts the server and waits until it is ready; it returns how long that
// took.
func (s *server) start() (time.Duration, error) {
	s.mu.Lock()
	s.log.reset()
	words := append(append([]string{}, s.wrap...), s.binary, "serve")
	s.cmd = exec.Command(words[0], words[1:]...)
	s.cmd.Dir, s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.dir, s.environ, s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		s.mu.Unlock()
		return 0, err
	}
	gone := make(chan struct{})
	s.gone = gone
	cmd := s.cmd
	s.mu.Unlock()
	go func() {
		_ = cmd.Wait() // being killed is what it is there for
		close(gone)
	}()
	err := s.awaitReady(startWithin)
	return time.Since(began), err
}

// awaitReady waits until the server answers.
func (s *server) awaitReady(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		select {
		case <-s.gone:
			return fmt.Errorf("the server ended by itself:\n%s", s.lastLog())
		default:
		}
		res, err := http.Get("http://" + s.addr + "/_matrix/client/versions")
		if err == nil {
			err = res.Body.Close()
			if err == nil && res.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(2 * time.Millisecond) // nothing announces an open port
	}
	return fmt.Errorf("the server did not answer within %v:\n%s", limit, s.lastLog())
}

// kill ends the process as a power cut would, and waits until it is gone.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	// The whole group, since a wrapper may stand between.
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // may be gone already
	<-s.gone
	s.cmd = nil
}

// stop tells the server to end, and waits until it and what wraps it are gone.
func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.gone:
		s.cmd = nil
		return nil
	case <-time.After(startWithin):
		return fmt.Errorf("the server did not end within %v", startWithin)
	}
}

func (s *server) lastLog() string {
	text := s.log.String()
	return text[max(0, len(text)-4000):]
}

// stoa runs another command of the program on the server's data.
func (s *server) stoa(args ...string) error {
	cmd := exec.Command(s.binary, args...)
	cmd.Dir, cmd.Env = s.dir, s.environ
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("stoa %v: %w\n%s", args, err, out)
	}
	return nil
}

// lockedBuffer collects a process's output while it may be read.
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

func (b *lockedBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
}

var errGone = errors.New("the connection ended without an answer")
