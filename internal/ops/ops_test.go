package ops

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/config"
)

// running is a server in this process on free ports.
type running struct {
	url     string
	environ []string
	stop    func() error
	log     *logLines
}

// logLines collects the log and lets a test wait for a line.
type logLines struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(string(p)) {
		l.lines <- line
	}
	return l.text.Write(p)
}

func (l *logLines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// waitFor waits for a line with the words and returns it.
func (l *logLines) waitFor(t *testing.T, words string) string {
	t.Helper()
	for {
		select {
		case line := <-l.lines:
			if strings.Contains(line, words) {
				return line
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("the log never said %q:\n%s", words, l.text.String())
		}
	}
}

var addrPattern = regexp.MustCompile(`addr=(\S+)`)

// start runs a server with the settings, and on free ports.
func start(t *testing.T, settings ...string) *running {
	t.Helper()
	environ := append([]string{"STOA_DATA_DIR=" + t.TempDir(), "STOA_CLIENT_LISTEN=127.0.0.1:0", "STOA_SERVER_NAME=stoa.test"}, settings...)
	cfg, _, err := config.Load("", environ)
	if err != nil {
		t.Fatal(err)
	}
	lines := &logLines{lines: make(chan string, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	tty := &terminal{environ: environ, err: lines}
	go func() { done <- tty.serve(ctx, cancel, cfg, slog.New(slog.NewTextHandler(lines, nil)), nil) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	addr := addrPattern.FindStringSubmatch(lines.waitFor(t, "server started"))[1]
	return &running{url: "http://" + addr, environ: environ, stop: stop, log: lines}
}

// run runs a command line.
func run(environ []string, stdin string, args ...string) (status int, out, stderr string) {
	var o, e bytes.Buffer
	status = Main(args, environ, strings.NewReader(stdin), &o, &e)
	return status, o.String(), e.String()
}

func get(t *testing.T, url string) (int, http.Header, string) {
	t.Helper()
	return getBy(t, http.DefaultClient, url)
}

func getBy(t *testing.T, c *http.Client, url string) (int, http.Header, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}

func TestServe(t *testing.T) {
	t.Parallel()
	srv := start(t, "STOA_INSTANCE=one")
	if line := srv.log.waitFor(t, "user create --admin"); !strings.Contains(line, "STOA_DATA_DIR=") {
		t.Errorf("%q does not find the server's data", line)
	}
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"/":                          {200, "stoa.test is up"},
		"/ready":                     {200, ""},
		"/_matrix/client/versions":   {200, `"v1.19"`},
		"/.well-known/matrix/client": {200, "m.homeserver"},
		"/_matrix/client/v3/unheard": {404, "M_UNRECOGNIZED"},
	} {
		status, header, body := get(t, srv.url+path)
		if status != want.status || !strings.Contains(body, want.says) {
			t.Errorf("%s: %d %s", path, status, body)
		}
		if header.Get("X-Stoa-Instance") != "one" || header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: headers %v", path, header)
		}
	}
	if err := srv.stop(); err != nil {
		t.Error("stop:", err)
	}
}

// The first log lines of a new server are read by somebody who has not seen one before.
func TestWarningsOfAStartSayWhatToDo(t *testing.T) {
	t.Parallel()
	lines := &logLines{lines: make(chan string, 1000)}
	log := slog.New(slog.NewTextHandler(lines, nil))
	warn(&config.Config{AdminListen: "0.0.0.0:9090", RateLimits: config.LimitsOff, FederationAllowPrivate: true}, log)
	n := 0
	for line := range strings.Lines(lines.all() + start(t).log.all()) {
		if !strings.Contains(line, "level=WARN") && !strings.Contains(line, "level=ERROR") {
			continue
		}
		if n++; !strings.Contains(line, " set ") {
			t.Errorf("a warning without an instruction: %s", line)
		}
	}
	if n < 5 { // the four above, and the key of the started server
		t.Errorf("only %d warnings", n)
	}
}

func TestServeRefusesASecondServerOnOneFile(t *testing.T) {
	t.Parallel()
	srv := start(t)
	status, _, stderr := run(srv.environ, "", "serve")
	if status != 1 || !strings.Contains(stderr, "stop it first") {
		t.Errorf("%d: %s", status, stderr)
	}
}

func TestServeRefusesAnotherServerName(t *testing.T) {
	t.Parallel()
	srv := start(t)
	if err := srv.stop(); err != nil {
		t.Fatal(err)
	}
	status, _, stderr := run(append(srv.environ, "STOA_SERVER_NAME=other.test"), "", "serve")
	if status != 1 || !strings.Contains(stderr, "stoa.test") {
		t.Errorf("%d: %s", status, stderr)
	}
}

// A command in the wrong directory must not create a new, empty server there.
func TestCommandsMakeNoDatabase(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	status, _, stderr := run([]string{"STOA_DATA_DIR=" + dir}, "", "user", "list")
	if status != 1 || !strings.Contains(stderr, "STOA_DATA_DIR") {
		t.Errorf("%d: %s", status, stderr)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s was made: %v", dir, err)
	}
}

// Every command has the same effect whether a server runs or not.
func TestUserCommands(t *testing.T) {
	t.Parallel()
	srv := start(t)
	for _, when := range []string{"beside_a_server", "without_one"} {
		name := strings.ReplaceAll(when, "_", "-")
		user := "@" + name + ":stoa.test"
		ok := func(stdin string, says string, args ...string) {
			t.Helper()
			status, out, stderr := run(srv.environ, stdin, args...)
			if status != 0 || !strings.Contains(out, says) {
				t.Errorf("%s: %v: %d\n%s%s", when, args, status, out, stderr)
			}
		}
		refusedStdin := func(stdin, says string, args ...string) {
			t.Helper()
			status, _, stderr := run(srv.environ, stdin, args...)
			if status != 1 || !strings.Contains(stderr, says) {
				t.Errorf("%s: %v: %d\n%s", when, args, status, stderr)
			}
		}
		refused := func(says string, args ...string) {
			t.Helper()
			refusedStdin("", says, args...)
		}
		refusedStdin("seven77\n", "at least 8 characters", "user", "create", "--password-stdin", name+"3")
		ok("", "Password, shown only now", "user", "create", "--admin", name)
		ok("a good password\n", "Created the user", "user", "create", "--password-stdin", name+"2")
		refused("taken", "user", "create", name)
		refused("user list", "user", "password", "nobody")
		ok("", user, "user", "list")
		ok("", "administrator", "user", "list")
		ok("", "Changed the password of "+user, "user", "password", user)
		refusedStdin("x1\n", "at least 8 characters", "user", "password", "--password-stdin", user)
		ok("", "no longer an administrator", "user", "admin", "--revoke", name)
		refused("--yes", "user", "deactivate", name)
		ok("", "Deactivated "+user, "user", "deactivate", "--yes", name)
		ok("", "deactivated", "user", "list")
		refused(user+" is deactivated for good", "user", "password", name)
		refused(user+" is deactivated for good", "user", "admin", name)
		ok("", "Deactivated "+user, "user", "deactivate", "--yes", name)
		refused("registration-token list", "registration-token", "revoke", "nope")
		refused("no registration token named", "registration-token", "revoke", "nope")
		refused("no room !x:y in the store", "doctor", "store", "--room", "!x:y")
		ok("", "shown only now", "registration-token", "create", "--uses", "2", when)
		ok("", "0 of 2", "registration-token", "list")
		ok("", "Revoked", "registration-token", "revoke", when)
		if err := srv.stop(); err != nil {
			t.Fatal(err)
		}
	}
	if log := srv.log.all(); strings.Contains(log, "level=ERROR") {
		t.Errorf("a mistake of the operator is an error of the server:\n%s", log)
	}
}

func TestServeFederationListenerSpeaksTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	// A socket file, since a free port would not be known to the test.
	socket := filepath.Join(t.TempDir(), "fed")
	start(t, "STOA_FEDERATION_LISTEN=unix:"+socket, "STOA_TLS_CERT="+cert, "STOA_TLS_KEY="+key)
	c, err := tls.Dial("unix", socket, &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /_matrix/federation/v1/version HTTP/1.1\r\nHost: stoa.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		Errcode string `json:"errcode"`
	}
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil || res.StatusCode != 404 || body.Errcode != "M_UNRECOGNIZED" {
		t.Errorf("%d %+v %v", res.StatusCode, body, err)
	}
}

// certificate writes a certificate for stoa.test.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stoa.test"}, DNSNames: []string{"stoa.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: keyBytes},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// Each command's help must show its usage.
func TestEveryCommandHasAnExample(t *testing.T) {
	t.Parallel()
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Example == "" || c.Short == "" {
			t.Errorf("%s has no example or no line of help", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit((&terminal{}).root())
}

func TestMistakesSayWhatToDo(t *testing.T) {
	t.Parallel()
	environ := []string{"STOA_DATA_DIR=" + t.TempDir()}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"an_unknown_command":    {[]string{"sevre"}, "serve"},
		"an_unknown_subcommand": {[]string{"user", "mkae"}, "user --help"},
		"an_unknown_flag":       {[]string{"serve", "--prot", "1"}, "--help"},
		"a_missing_argument":    {[]string{"user", "create"}, "stoa user create --admin alice"},
		"a_missing_file":        {[]string{"serve", "--config", "/nowhere.yaml"}, "/nowhere.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, _, stderr := run(environ, "", c.args...)
			if status != 1 || !strings.Contains(stderr, c.says) {
				t.Errorf("%d: %s", status, stderr)
			}
		})
	}
}
