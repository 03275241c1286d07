package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"stoa/test/kit"
	"stoa/test/kit/database"
)

// serverName is the server's name in user IDs.
const serverName = "random.test"

// server is one process of the server. Its address and data outlive it.
type server struct {
	*kit.Server
	dropDatabase func() error
	// waits has one connection, whose last request waited for long: the server parks the next that waits on it at once.
	waits *http.Client
	warm  bool // it has waited for long since the server started
}

// newServer prepares a server with a new database.
func newServer(binary, engine string) (*server, error) {
	dir, err := os.MkdirTemp("", "stoa-random-")
	if err != nil {
		return nil, err
	}
	k, err := kit.NewServer("server", binary, dir, "STOA_SERVER_NAME="+serverName, "STOA_REGISTRATION=open", "STOA_LOG_LEVEL=warn")
	if err != nil {
		return nil, err
	}
	s := &server{Server: k, dropDatabase: func() error { return nil }}
	if engine == "postgres" {
		ctx, cluster, name := context.Background(), os.Getenv("STOA_TEST_POSTGRES"), strings.ReplaceAll(filepath.Base(dir), "-", "_")
		url, err := database.New(ctx, cluster, name)
		if err != nil {
			return nil, err
		}
		k.Settings = append(k.Settings, "STOA_DATABASE="+url, "STOA_UNSAFE_DATABASE=true")
		s.dropDatabase = func() error { return database.Drop(ctx, cluster, name) }
	}
	s.waits = &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	return s, nil
}

// end ends the process by a signal, and waits until it is gone.
func (s *server) end(signal syscall.Signal) error {
	if s.Process == nil {
		return nil
	}
	s.Signal(signal)
	select {
	case <-s.Gone():
		s.Process, s.warm = nil, false
		http.DefaultClient.CloseIdleConnections()
		s.waits.CloseIdleConnections()
		return nil
	case <-time.After(kit.StartWithin):
		return fmt.Errorf("the server did not end within %v", kit.StartWithin)
	}
}

func (s *server) remove() {
	err := errors.Join(s.end(syscall.SIGKILL), s.dropDatabase(), os.RemoveAll(s.Dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, "randomclient: remove the server's data:", err)
	}
}
