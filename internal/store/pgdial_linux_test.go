package store

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestPgDialer_sockets promises that a machine that says nothing is given up after
// pgUnreachable. What the kernel makes of it is seen by `make chaos`, which cuts
// instances off.
func TestPgDialer_sockets(t *testing.T) {
	t.Parallel()
	t.Run("bounds_silence_over_tcp", func(t *testing.T) {
		t.Parallel()
		conn := dialPg(t, "tcp", "127.0.0.1:0")
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		seconds := func(d time.Duration) int { return int(d / time.Second) }
		for _, o := range []struct {
			name                string
			level, option, want int
		}{
			{"TCP_USER_TIMEOUT", syscall.IPPROTO_TCP, tcpUserTimeout, int(pgUnreachable.Milliseconds())},
			{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, seconds(pgQuiet)},
			{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, seconds(pgAsk)},
			{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, seconds(pgUnreachable - pgQuiet)},
		} {
			var got int
			var failed error
			if err := raw.Control(func(fd uintptr) { got, failed = syscall.GetsockoptInt(int(fd), o.level, o.option) }); err != nil {
				t.Fatal(err)
			}
			if failed != nil || got != o.want {
				t.Errorf("%s is %d (%v), want %d", o.name, got, failed, o.want)
			}
		}
	})
	t.Run("connects_over_a_unix_socket", func(t *testing.T) {
		t.Parallel()
		dialPg(t, "unix", filepath.Join(t.TempDir(), "s"))
	})
}

func dialPg(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // its end is the test's
	conn, err := newPgDialer().DialContext(t.Context(), network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
