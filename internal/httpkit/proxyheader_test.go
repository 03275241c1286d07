package httpkit

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/pires/go-proxyproto"

	"stoa/internal/parking"
)

// addressServer tells each client its address, at /parked from outside of net/http.
func addressServer(t *testing.T, listen string, trusted ...string) *Server {
	t.Helper()
	opt := Options{}
	for _, p := range trusted {
		opt.TrustedProxies = append(opt.TrustedProxies, netip.MustParsePrefix(p))
	}
	m, _ := testMux(t, opt,
		get("GET", "/", func(r *http.Request) (any, error) { return greeting{ClientAddress(r).String()}, nil }),
		Route{Method: "GET", Pattern: "/parked", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			address := ClientAddress(r).String()
			parking.Park(w, r, func(line *parking.Parked) { _ = line.Answer([]byte(`{"hello":"` + address + `"}`)) }) // the test sees what arrives
		})})
	return serveMux(t, listen, DefaultTimes, m)
}

// saidBefore is what a balancer says before a connection.
func saidBefore(t *testing.T, client string) []byte {
	t.Helper()
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client))
	to := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}
	if from.IP.To4() == nil {
		to.IP = net.ParseIP("2001:db8::443")
	}
	b, err := proxyproto.HeaderProxyFromAddrs(2, from, to).Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProxyHeader(t *testing.T) {
	t.Parallel()
	local, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}).Format()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		unix    bool
		trusted []string
		before  []byte
		head    string
		want    string
	}{
		"is_believed_of_a_trusted_proxy":     {false, []string{"127.0.0.1/32"}, saidBefore(t, "198.51.100.7:99"), "", "198.51.100.7"},
		"is_believed_on_a_unix_socket":       {true, nil, saidBefore(t, "[2001:db8::7]:99"), "", "2001:db8::7"},
		"is_not_believed_of_others":          {false, nil, saidBefore(t, "198.51.100.7:99"), "", "127.0.0.1"},
		"may_say_nothing":                    {false, []string{"127.0.0.1/32"}, local, "", "127.0.0.1"},
		"need_not_be_there":                  {false, []string{"127.0.0.1/32"}, nil, "", "127.0.0.1"},
		"hides_what_a_client_forges":         {false, []string{"127.0.0.1/32"}, saidBefore(t, "198.51.100.7:99"), "X-Forwarded-For: 203.0.113.9\r\n", "198.51.100.7"},
		"comes_from_one_proxy_after_another": {false, []string{"127.0.0.0/8"}, saidBefore(t, "127.0.0.2:99"), "X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listen := "127.0.0.1:0"
			if c.unix {
				listen = "unix:" + filepath.Join(t.TempDir(), "s")
			}
			addr := addressServer(t, listen, c.trusted...).Addr()
			conn, err := net.Dial(addr.Network(), addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			// The first request comes with it, or its bytes one by one; the others where the first left the connection.
			first := fmt.Appendf(nil, "%sGET / HTTP/1.1\r\nHost: x\r\n%s\r\n", c.before, c.head)
			if c.unix {
				for i := range first[:len(first)-1] {
					if _, err := conn.Write(first[i : i+1]); err != nil {
						t.Fatal(err)
					}
				}
				first = first[len(first)-1:]
			}
			in := bufio.NewReader(conn)
			for i, ask := range []string{string(first), "/parked", "/parked", "/"} {
				if i > 0 {
					ask = fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", ask, c.head)
				}
				if _, err := io.WriteString(conn, ask); err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				if want := `{"hello":"` + c.want + `"}`; err != nil || string(got) != want {
					t.Errorf("request %d: got %s and %v, want %s", i, got, err, want)
				}
			}
		})
	}
}

// TestProxyHeader_malformed: a connection that begins so is closed.
func TestProxyHeader_malformed(t *testing.T) {
	t.Parallel()
	addr := addressServer(t, "127.0.0.1:0", "127.0.0.1/32").Addr()
	good := saidBefore(t, "198.51.100.7:99")
	long := append([]byte(nil), good...)
	long[14], long[15] = 0xff, 0xff // its length
	for name, begin := range map[string][]byte{
		"version": append(append([]byte(nil), proxyproto.SIGV2...), 0x11, 0x11, 0, 12),
		"length":  append(long, make([]byte, 8<<10)...),
	} {
		conn, err := net.Dial(addr.Network(), addr.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(begin) // it may be closed before all is there
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && res.StatusCode == http.StatusOK {
			t.Errorf("%s: the request behind it is served", name)
		}
		_ = conn.Close() // it is over
	}
}
