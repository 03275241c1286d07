package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"

	"stoa/internal/httpkit"
)

// controlListener is the socket for commands. Its users can do everything, so it accepts
// connections only from the server's own user and from root.
type controlListener struct {
	*net.UnixListener
	path string
	may  []int // user IDs
	log  *slog.Logger
}

// listenControl opens the socket for the server's own user and for root. It binds the
// socket in a directory that no other user can enter, and moves it to its path after
// setting its mode: otherwise anybody could connect between bind and chmod.
func listenControl(path string, log *slog.Logger) (net.Listener, error) {
	if err := httpkit.RemoveStaleSocket(path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".") // 0700; a short name, since paths of sockets must be short
	if err != nil {
		return nil, err
	}
	bound := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on unix socket %s: %w", path, err), os.RemoveAll(private))
	}
	l.SetUnlinkOnClose(false) // the path has changed by then
	err = os.Chmod(bound, 0o600)
	if err == nil {
		err = giveName(bound, path)
	}
	if err = errors.Join(err, os.RemoveAll(private)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &controlListener{UnixListener: l, path: path, may: []int{0, os.Geteuid()}, log: log}, nil
}

// giveName moves a file to a path that must be free.
func giveName(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(from, to) // a file system without hard links
}

// Accept waits for a connection from an allowed user.
func (l *controlListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUser(c)
		if err == nil && slices.Contains(l.may, uid) {
			return c, nil
		}
		l.log.Warn("another user's connection to the control socket was refused", "uid", uid, "err", err)
		_ = c.Close() // nothing was written to it
	}
}

// Addr is the path of the socket.
func (l *controlListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and removes the socket.
func (l *controlListener) Close() error {
	err := l.UnixListener.Close()
	if err == nil { // only the first call removes it
		err = os.Remove(l.path)
	}
	return err
}
