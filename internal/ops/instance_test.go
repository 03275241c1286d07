package ops

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// Every answer, on every listener, names the instance that it comes from.
func TestEveryAnswerNamesTheInstance(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	dir := t.TempDir()
	federation, admin := filepath.Join(dir, "fed"), filepath.Join(dir, "admin")
	srv := start(t, "STOA_INSTANCE=one", "STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off", "STOA_FEDERATION_LISTEN=unix:"+federation,
		"STOA_TLS_CERT="+cert, "STOA_TLS_KEY="+key, "STOA_ADMIN_LISTEN=unix:"+admin)
	token := register(t, srv.url)
	_, since, err := syncOnce(http.DefaultClient, srv.url, token, "")
	if err != nil {
		t.Fatal(err)
	}
	client := func() (net.Conn, error) { return net.Dial("tcp", strings.TrimPrefix(srv.url, "http://")) }
	fed := func() (net.Conn, error) {
		return tls.Dial("unix", federation, &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	}
	adm := func() (net.Conn, error) { return net.Dial("unix", admin) }
	who := "Authorization: Bearer " + token + "\r\n"
	for name, c := range map[string]struct {
		dial   func() (net.Conn, error)
		head   string // the request's line, and headers
		status int
	}{
		"an_answer":               {client, "GET /_matrix/client/versions", 200},
		"a_page":                  {client, "GET /", 200},
		"a_head":                  {client, "HEAD /_matrix/client/versions", 200},
		"ready":                   {client, "GET /ready", 200},
		"no_token":                {client, "GET /_matrix/client/v3/sync", 401},
		"an_unknown_path":         {client, "GET /nowhere", 404},
		"an_unknown_method":       {client, "DELETE /_matrix/client/versions", 405},
		"a_malformed_query":       {client, "GET /_matrix/client/versions?a=%zz", 400},
		"a_preflight":             {client, "OPTIONS /_matrix/client/v3/sync", 204},
		"options_of_the_server":   {client, "OPTIONS *", 204},
		"a_body_that_is_too_long": {client, "POST /_matrix/client/v3/login HTTP/1.1\r\nContent-Length: 1000000000", 413},
		"a_sync":                  {client, "GET /_matrix/client/v3/sync HTTP/1.1\r\n" + who, 200},
		"a_long_poll":             {client, "GET /_matrix/client/v3/sync?timeout=300&since=" + since + " HTTP/1.1\r\n" + who, 200},
		"federation":              {fed, "GET /_matrix/federation/v1/version", 404},
		"federation_preflight":    {fed, "OPTIONS /_matrix/key/v2/server", 204},
		"health":                  {adm, "GET /health", 200},
		"metrics":                 {adm, "GET /metrics", 200},
		"an_unknown_admin_path":   {adm, "GET /nowhere", 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := c.dial()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			line, headers, _ := strings.Cut(c.head, " HTTP/1.1\r\n")
			if headers != "" && !strings.HasSuffix(headers, "\r\n") {
				headers += "\r\n"
			}
			if _, err := io.WriteString(conn, line+" HTTP/1.1\r\nHost: stoa.test\r\n"+headers+"\r\n"); err != nil {
				t.Fatal(err)
			}
			method, _, _ := strings.Cut(line, " ")
			res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
			if err != nil {
				t.Fatal(err)
			}
			if got := res.Header["X-Stoa-Instance"]; res.StatusCode != c.status || len(got) != 1 || got[0] != "one" {
				t.Errorf("status %d, X-Stoa-Instance %q", res.StatusCode, got)
			}
		})
	}
}
