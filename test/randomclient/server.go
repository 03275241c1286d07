package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"stoa/test/kit"
)

// serverName is the server's name in user IDs.
const serverName = "random.test"

// startWithin bounds a start; the machine may be busy.
const startWithin = 30 * time.Second

// server is one process of the server. Its address and data outlive it.
type server struct {
	binary, dir, addr string
	environ           []string
	dropDatabase      func() error

	cmd  *exec.Cmd
	gone chan struct{} // closed when the process has ended
	log  *kit.Output
	// waits has one connection, whose last request waited for long: the server parks the next that waits on it at once.
	waits *http.Client
	warm  bool // it has waited for long since the server started
}

// newServer prepares a server with a new database.
func newServer(binary, engine string) (*server, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "stoa-random-")
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
	s := &server{binary: binary, dir: dir, addr: addr, log: &kit.Output{}, dropDatabase: func() error { return nil }}
	s.environ = append(os.Environ(), "STOA_SERVER_NAME="+serverName, "STOA_CLIENT_LISTEN="+addr, "STOA_DATA_DIR="+dir,
		"STOA_REGISTRATION=open", "STOA_LOCALPART_AS_DISPLAY_NAME=off", "STOA_RATE_LIMITS=off", "STOA_LOG_LEVEL=warn")
	if engine == "postgres" {
		url, drop, err := newDatabase(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		s.environ, s.dropDatabase = append(s.environ, "STOA_DATABASE="+url, "STOA_UNSAFE_DATABASE=true"), drop
	}
	s.waits = &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	return s, nil
}

// newDatabase makes a database in the cluster of STOA_TEST_POSTGRES.
func newDatabase(name string) (url string, drop func() error, err error) {
	admin := os.Getenv("STOA_TEST_POSTGRES")
	if admin == "" {
		return "", nil, errors.New("STOA_TEST_POSTGRES is not set: run it by scripts/random, or under scripts/with-postgres")
	}
	config, err := pgx.ParseConfig(admin)
	if err != nil {
		return "", nil, err
	}
	quoted := pgx.Identifier{name}.Sanitize()
	if err := execute(config, "CREATE DATABASE "+quoted); err != nil {
		return "", nil, err
	}
	url = fmt.Sprintf("postgres://%s@/%s?host=%s&port=%d", config.User, name, config.Host, config.Port)
	return url, func() error { return execute(config, "DROP DATABASE "+quoted+" WITH (FORCE)") }, nil
}

func execute(config *pgx.ConnConfig, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// start starts the server and waits until it is ready.
func (s *server) start() error {
	s.log.Reset()
	s.cmd = exec.Command(s.binary, "serve")
	s.cmd.Dir, s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.dir, s.environ, s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	s.gone = make(chan struct{})
	go func(cmd *exec.Cmd, gone chan struct{}) {
		_ = cmd.Wait() // being stopped is what it is there for
		close(gone)
	}(s.cmd, s.gone)
	deadline := time.Now().Add(startWithin)
	for time.Now().Before(deadline) {
		res, err := http.Get("http://" + s.addr + "/_matrix/client/versions")
		if err == nil {
			if err = res.Body.Close(); err == nil && res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.gone:
			return fmt.Errorf("the server ended by itself:\n%s", s.lastLog())
		case <-time.After(2 * time.Millisecond): // nothing announces an open port
		}
	}
	return fmt.Errorf("the server did not answer within %v:\n%s", startWithin, s.lastLog())
}

// end ends the process by a signal, and waits until it is gone.
func (s *server) end(signal syscall.Signal) error {
	if s.cmd == nil {
		return nil
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, signal) // it may have ended by itself
	select {
	case <-s.gone:
		s.cmd, s.warm = nil, false
		http.DefaultClient.CloseIdleConnections()
		s.waits.CloseIdleConnections()
		return nil
	case <-time.After(startWithin):
		return fmt.Errorf("the server did not end within %v", startWithin)
	}
}

func (s *server) remove() {
	err := errors.Join(s.end(syscall.SIGKILL), s.dropDatabase(), os.RemoveAll(s.dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, "randomclient: remove the server's data:", err)
	}
}

func (s *server) lastLog() string {
	text := s.log.String()
	return text[max(0, len(text)-4000):]
}
