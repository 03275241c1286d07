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

// controlListener is the socket by which commands reach the server. Whoever can use it can do everything, so it takes
// connections of the server's own user and of root only.
type controlListener struct {
	*net.UnixListener
	path string
	may  []int // user IDs
	log  *slog.Logger
}

// listenControl opens the socket for the user that the server runs as and for root. It is bound in a folder that no other
// user can enter, and gets its name once its mode is right: between bind and chmod anybody could connect.
func listenControl(path string, log *slog.Logger) (net.Listener, error) {
	if err := httpkit.RemoveStaleSocket(path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".") // 0700; the name is short, as paths of sockets must be
	if err != nil {
		return nil, err
	}
	bound := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on unix socket %s: %w", path, err), os.RemoveAll(private))
	}
	l.SetUnlinkOnClose(false) // the name is another by then
	err = os.Chmod(bound, 0o600)
	if err == nil {
		err = giveName(bound, path)
	}
	if err = errors.Join(err, os.RemoveAll(private)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &controlListener{UnixListener: l, path: path, may: []int{0, os.Geteuid()}, log: log}, nil
}

// giveName moves a file to a name that must be free.
func giveName(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(from, to) // a file system without hard links
}

// Accept waits for a connection of a user who may.
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
		_ = c.Close() // nothing was said on it
	}
}

// Addr is where commands find the socket.
func (l *controlListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and removes the socket.
func (l *controlListener) Close() error {
	err := l.UnixListener.Close()
	if err == nil { // the first time
		err = os.Remove(l.path)
	}
	return err
}
