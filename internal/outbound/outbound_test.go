package outbound

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const public = "93.184.216.34"

// hosts is a DNS. A host with several answers gives them in turn, the last one for ever.
type hosts map[string][]string

func (h hosts) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	host = strings.TrimSuffix(host, ".")
	answers := h[host]
	if len(answers) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(answers) > 1 {
		h[host] = answers[1:]
	}
	var list []netip.Addr
	for _, text := range strings.Fields(answers[0]) {
		list = append(list, netip.MustParseAddr(text))
	}
	return list, nil
}

// fixture is a web server at the address public, and the addresses that a client dials.
type fixture struct {
	*httptest.Server
	hosts  hosts
	opt    Options
	dialed []string
}

func newFixture(t *testing.T, f http.HandlerFunc) *fixture {
	t.Helper()
	t.Parallel()
	web := &fixture{Server: httptest.NewServer(f), hosts: hosts{"example.org": {public}}}
	t.Cleanup(web.Close)
	web.opt = Options{Resolver: web.hosts, MaxRedirects: 3, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		web.dialed = append(web.dialed, address)
		return (&net.Dialer{}).DialContext(ctx, network, web.Listener.Addr().String())
	}}
	return web
}

// get gives the body of a URL.
func (f *fixture) get(t *testing.T, address string) (string, error) {
	t.Helper()
	c := New(f.opt)
	defer c.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

func (f *fixture) wantErr(t *testing.T, address string, want error) {
	t.Helper()
	if text, err := f.get(t, address); !errors.Is(err, want) {
		t.Errorf("%s gives %.100q, %v; want %v", address, text, err, want)
	}
}

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }

func TestDo_dials_the_checked_address(t *testing.T) {
	web := newFixture(t, hello)
	web.hosts["both.example"] = []string{"10.0.0.1 " + public + " ::1"}
	for _, host := range []string{"example.org", "both.example:8080", public} {
		if text, err := web.get(t, "http://"+host+"/"); err != nil || text != "hello" {
			t.Errorf("%s gives %q, %v", host, text, err)
		}
	}
	if got := fmt.Sprint(web.dialed); got != "[93.184.216.34:80 93.184.216.34:8080 93.184.216.34:80]" {
		t.Errorf("dialled %s", got)
	}
}

// The second look-up of a rebinding name would give the loopback address. There is none.
func TestDo_looks_up_once(t *testing.T) {
	web := newFixture(t, hello)
	web.hosts["rebind.example"] = []string{public, "127.0.0.1"}
	if text, err := web.get(t, "http://rebind.example/"); err != nil || text != "hello" {
		t.Fatalf("got %q, %v", text, err)
	}
	web.wantErr(t, "http://rebind.example/", ErrPrivate) // a new connection looks it up again
	if len(web.dialed) != 1 || web.dialed[0] != public+":80" {
		t.Errorf("dialled %v", web.dialed)
	}
}

func TestDo_refuses_private_addresses(t *testing.T) {
	web := newFixture(t, hello)
	web.hosts["inside.example"] = []string{"10.1.2.3 fd00::1"}
	for _, host := range []string{
		"inside.example", "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
		"100.64.0.1", "0.0.0.0", "224.0.0.1", "239.1.1.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "192.88.99.1",
		"[::1]", "[::]", "[fe80::1]", "[fe80::1%25lo]", "[fc00::1]", "[fd12:3456::1]", "[ff02::1]",
		"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[0:0:0:0:0:ffff:0a00:0001]",
		"[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001::1]", "[2001:db8::1]", "[3fff::1]",
	} {
		web.wantErr(t, "http://"+host+"/", ErrPrivate)
	}
	if len(web.dialed) > 0 {
		t.Errorf("dialled %v", web.dialed)
	}
}

func TestDo_refuses_other_forms(t *testing.T) {
	web := newFixture(t, hello)
	web.hosts["2130706433"], web.hosts["0x7f.1"], web.hosts["0177.0.0.1"] = []string{public}, []string{public}, []string{public}
	for _, address := range []string{
		"http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://1.2.3.4.5/", "http://127.0.0.1./",
		"http://anna:secret@example.org/", "http://anna@example.org/", "ftp://example.org/", "file:///etc/passwd", "http:///", "http:example.org",
		"http://example.org:25/", "http://example.org:6379/", "http://./",
	} {
		web.wantErr(t, address, ErrURL)
	}
	if len(web.dialed) > 0 {
		t.Errorf("dialled %v", web.dialed)
	}
}

func TestDo_allows_private_addresses_if_set(t *testing.T) {
	web := newFixture(t, hello)
	web.opt.AllowPrivate = true
	for _, host := range []string{"127.0.0.1:25", "[::1]", "10.0.0.1", "[fd00::1]", "[64:ff9b::1]"} {
		if text, err := web.get(t, "http://"+host+"/"); err != nil || text != "hello" {
			t.Errorf("%s gives %q, %v", host, text, err)
		}
	}
	for _, host := range []string{"0.0.0.0", "[::]", "224.0.0.1", "[ff02::1]", "255.255.255.255"} {
		web.wantErr(t, "http://"+host+"/", ErrPrivate)
	}
}

func TestDo_redirects(t *testing.T) {
	web := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Referer") != "" || r.Header.Get("Cookie") != "" {
			t.Errorf("%s came with %v", r.URL, r.Header)
		}
		http.SetCookie(w, &http.Cookie{Name: "id", Value: "1"})
		path := strings.TrimPrefix(r.URL.Path, "/")
		if n, err := strconv.Atoi(path); err == nil {
			if n == 0 {
				hello(w, r)
				return
			}
			http.Redirect(w, r, "/"+strconv.Itoa(n-1), http.StatusFound)
			return
		}
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
	})
	if text, err := web.get(t, "http://example.org/3"); err != nil || text != "hello" {
		t.Errorf("three redirects give %q, %v", text, err)
	}
	web.hosts["evil.example"] = []string{public, "127.0.0.1"}
	web.wantErr(t, "http://example.org/4", ErrRedirects)
	web.wantErr(t, "http://example.org/loop?to=/loop%3Fto=/loop", ErrRedirects)
	web.wantErr(t, "http://example.org/x?to=http://127.0.0.1/0", ErrPrivate)
	web.wantErr(t, "http://example.org/x?to=http://[::1]/0", ErrPrivate)
	web.wantErr(t, "http://example.org/x?to=//169.254.169.254/latest", ErrPrivate)
	web.wantErr(t, "http://example.org/x?to=file:///etc/passwd", ErrURL)
	web.wantErr(t, "http://example.org/x?to=http://root@example.org/0", ErrURL)
	web.wantErr(t, "http://example.org/x?to=http://0x7f.1/", ErrURL)
	web.opt.IdlePerHost = -1
	web.wantErr(t, "http://evil.example/x?to=http://evil.example:81/", ErrPrivate) // rebound between the two
	web.opt.MaxRedirects = 0
	web.wantErr(t, "http://example.org/1", ErrRedirects)
}

func TestDo_bounds_bodies(t *testing.T) {
	var sent atomic.Int64
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	web := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/exact":
			io.WriteString(w, strings.Repeat("x", 1000))
		case "/more":
			w.Header().Set("Content-Length", "1001")
			io.WriteString(w, strings.Repeat("x", 1001))
		case "/endless":
			for {
				n, err := w.Write(make([]byte, 64<<10))
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		}
	})
	web.opt.MaxBody = 1000
	if text, err := web.get(t, "http://example.org/exact"); err != nil || len(text) != 1000 {
		t.Errorf("a body of the limit gives %d bytes, %v", len(text), err)
	}
	for _, path := range []string{"/more", "/endless", "/bomb"} {
		text, err := web.get(t, "http://example.org"+path)
		if !errors.Is(err, ErrTooLarge) || len(text) > 1000 {
			t.Errorf("%s gives %d bytes, %v", path, len(text), err)
		}
	}
	if sent.Load() > 64<<20 {
		t.Errorf("of an endless body %d bytes were sent", sent.Load())
	}
}

func TestDo_bounds_headers(t *testing.T) {
	web := newFixture(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("x", 100_000)) })
	if _, err := web.get(t, "http://example.org/"); err == nil || !strings.Contains(err.Error(), "exceeded") {
		t.Errorf("a long header gives %v", err)
	}
}

func TestDo_bounds_time(t *testing.T) {
	web := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			io.WriteString(w, "begins")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}
		<-r.Context().Done()
	})
	web.opt.Timeout = 100 * time.Millisecond
	for _, path := range []string{"/header", "/body"} {
		if text, err := web.get(t, "http://example.org"+path); !os.IsTimeout(err) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s gives %q, %v", path, text, err)
		}
	}
}

func TestDo_trusts_given_authorities_only(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(http.HandlerFunc(hello))
	t.Cleanup(web.Close)
	f := &fixture{Server: web, opt: Options{AllowPrivate: true, RootCAs: x509.NewCertPool()}}
	if _, err := f.get(t, web.URL); err == nil {
		t.Error("an unknown authority is trusted")
	}
	f.opt.RootCAs.AddCert(web.Certificate())
	if text, err := f.get(t, web.URL); err != nil || text != "hello" {
		t.Errorf("got %q, %v", text, err)
	}
}

// No test in parallel: it sets the environment.
func TestDo_uses_no_proxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	t.Cleanup(proxy.Close)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	web := httptest.NewServer(http.HandlerFunc(hello))
	t.Cleanup(web.Close)
	f := &fixture{Server: web, opt: Options{Resolver: hosts{"example.org": {public}}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != public+":80" {
			t.Errorf("dialled %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, web.Listener.Addr().String())
	}}}
	if text, err := f.get(t, "http://example.org/"); err != nil || text != "hello" {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestDo_checks_each_URL(t *testing.T) {
	web := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
	})
	web.hosts["blocked.example"] = []string{public}
	errBlocked := errors.New("blocked")
	web.opt.Check = func(u *url.URL) error {
		if u.Hostname() == "blocked.example" {
			return errBlocked
		}
		return nil
	}
	web.wantErr(t, "http://blocked.example/", errBlocked)
	web.wantErr(t, "http://example.org/?to=http://blocked.example/", errBlocked)
}

func TestDo_sends_its_name(t *testing.T) {
	web := newFixture(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.UserAgent()) })
	web.opt.UserAgent = "Stoa"
	if text, err := web.get(t, "http://example.org/"); err != nil || text != "Stoa" {
		t.Errorf("got %q, %v", text, err)
	}
}
