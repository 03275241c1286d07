package httpkit

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// serve runs routes on a real listener until the test ends.
func serve(t *testing.T, address string, routes ...Route) net.Addr {
	t.Helper()
	m, _ := testMux(t, Options{}, routes...)
	l, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(l, m, nil, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Drain(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addr()
}

func TestServer(t *testing.T) {
	t.Parallel()
	post := get("POST", "/", func(r *http.Request) (any, error) {
		b, err := ReadBody(r, 100_000)
		return greeting{string(b[:min(5, len(b))])}, err
	})
	for name, address := range map[string]string{
		"serves_ipv4":          "127.0.0.1:0",
		"serves_a_unix_socket": "unix:" + filepath.Join(t.TempDir(), "s"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, address, post)
			c, err := net.Dial(addr.Network(), addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			in := bufio.NewReader(c)
			for range 3 { // the connection is kept
				if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\nhello"+strings.Repeat("x", 69995)); err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				if err != nil || string(body) != `{"hello":"hello"}` {
					t.Fatalf("%s, %v", body, err)
				}
			}
		})
	}
	t.Run("answers_413_to_a_declared_length_and_closes", func(t *testing.T) {
		t.Parallel()
		addr := serve(t, "127.0.0.1:0", post)
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 413 || !res.Close {
			t.Errorf("status %d, close %v", res.StatusCode, res.Close)
		}
	})
}

func TestListen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sock")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + path); err == nil {
		t.Fatal("took a socket that another program listens on")
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal("a stale socket was not replaced:", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + t.TempDir()); err == nil {
		t.Fatal("took a folder")
	}
}
