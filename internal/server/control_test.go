//go:build unix

package server

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// At no moment may others than the server's user connect, also where they can enter the data directory.
func TestControlSocketIsNeverOpenToOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "stoa.sock")
	stop, seen := make(chan struct{}), make(chan os.FileMode, 1)
	go func() {
		defer close(seen)
		for {
			if is, err := os.Lstat(path); err == nil && is.Mode().Perm() != 0o600 {
				seen <- is.Mode()
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for range 300 {
		l, err := listenControl(path, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if mode, ok := <-seen; ok {
		t.Errorf("it was %v for a moment", mode)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestControlSocketAsksWhoConnects(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux is asked")
	}
	path := filepath.Join(t.TempDir(), "stoa.sock")
	l, err := listenControl(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenControl(path, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("two servers listen on one socket")
	}
	control := l.(*controlListener)
	may := control.may
	control.may = []int{os.Geteuid() + 1} // who connects below is somebody else
	stranger, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	if _, err := stranger.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a stranger was answered with %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a stranger was accepted: %v", err)
	}
	l, err = listenControl(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.(*controlListener).may[1] != may[1] {
		t.Error("another owner")
	}
	own, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
