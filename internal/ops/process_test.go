package ops

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/store/storetest"
)

// beTheProgram turns the test binary into the program, for tests that need a process.
const beTheProgram = "OPS_TEST_BE_THE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(beTheProgram) != "" {
		os.Exit(Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	// These tests mostly wait for processes, leases and timeouts.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := parallel.Value.Set("6"); err != nil {
			panic(err) // it is a number
		}
	}
	os.Exit(m.Run())
}

// process is a server in a process of its own.
type process struct {
	url  string
	cmd  *exec.Cmd
	log  *logLines
	done chan error
}

// command is a command line of the program in a process of its own.
func command(t *testing.T, settings []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), beTheProgram+"=1", "STOA_SERVER_NAME="+storetest.ServerName)
	cmd.Env = append(cmd.Env, settings...)
	return cmd
}

func startProcess(t *testing.T, settings ...string) *process {
	t.Helper()
	settings = append([]string{"STOA_DATA_DIR=" + t.TempDir(), "STOA_CLIENT_LISTEN=127.0.0.1:0"}, settings...)
	p := launch(t, command(t, settings, "serve"))
	p.url = "http://" + addrPattern.FindStringSubmatch(p.log.waitFor(t, "server started"))[1]
	return p
}

// launch starts a process, which ends with the test at the latest.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, log: &logLines{lines: make(chan string, 10_000)}, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		p.done <- cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		<-ended
	})
	return p
}

// end stops the process, and requires status 0 within the promised 10 s.
func (p *process) end(t *testing.T) (took time.Duration) {
	t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.done:
		if err != nil {
			t.Errorf("ended with %v:\n%s", err, p.log.all())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("did not end within 10 s")
	}
	return time.Since(began)
}

// answer has the parts of an answer that tests check.
type answer struct {
	status   int
	last     bool   // whether it closes its connection
	instance string // that sent it
}

func fetch(c *http.Client, url, token string) (answer, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return answer{res.StatusCode, res.Close, res.Header.Get("X-Stoa-Instance")}, errors.Join(err, res.Body.Close())
}

// A balancer that obeys /ready, with ten checks a second, sees no refused connection and
// no failed request. Long polls are answered, and all answers during the drain close
// their connections.
func TestDrainProcess(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off")
	token := register(t, p.url)
	const interval = 100 * time.Millisecond
	var sends, asked atomic.Int64
	var stopping atomic.Bool // SIGTERM was sent
	down := make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() { // the balancer: two failures take the server out
		tick := time.NewTicker(interval)
		defer tick.Stop()
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for failures := 0; failures < 2; {
			got, err := fetch(c, p.url+"/ready", "")
			asked.Add(1)
			if err != nil {
				t.Error("/ready:", err)
			}
			if got.status != http.StatusOK {
				failures++
			}
			<-tick.C
		}
		close(down)
	})
	var lasts atomic.Int64
	for i := range 8 {
		g.Go(func() {
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
			for {
				select {
				case <-down:
					return
				default:
				}
				got, err := fetch(c, p.url+"/_matrix/client/v3/account/whoami", token)
				if err != nil || got.status != http.StatusOK {
					t.Errorf("%+v, %v", got, err)
					return
				}
				sends.Add(1)
				if got.last && i%2 == 1 && stopping.Load() {
					lasts.Add(1)
				}
			}
		})
	}
	g.Go(func() { // a long poll that began before
		c := &http.Client{Transport: &http.Transport{}}
		_, first, err := syncOnce(c, p.url, token, "")
		if err != nil {
			t.Error(err)
			return
		}
		status, _, err := syncOnce(c, p.url, token, first)
		if err != nil || status != http.StatusOK {
			t.Errorf("the long poll: %d, %v", status, err)
		}
	})
	waitFor(t, func() bool { return asked.Load() > 4 && sends.Load() > 50 })
	stopping.Store(true)
	began := time.Now()
	took := p.end(t)
	<-down
	g.Wait()
	if took < 2*interval {
		t.Errorf("ended after %v, before the balancer could notice", took)
	}
	if lasts.Load() == 0 {
		t.Error("no answer ended its connection")
	}
	t.Logf("%d requests; ended after %v", sends.Load(), time.Since(began))
}

// waitFor polls a condition that has no announcement.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("waited for 20 s")
		}
	}
}

// register creates an account and returns its access token.
func register(t *testing.T, url string) string {
	t.Helper()
	body := `{"username":"alice","password":"a good password","auth":{"type":"m.login.dummy"}}`
	res, err := http.Post(url+"/_matrix/client/v3/register", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	decode(t, res, &answer)
	if answer.AccessToken == "" {
		t.Fatalf("register: %d", res.StatusCode)
	}
	return answer.AccessToken
}

// syncOnce does one /sync and returns its next_batch.
func syncOnce(c *http.Client, url, token, since string) (status int, next string, err error) {
	u := url + "/_matrix/client/v3/sync"
	if since != "" {
		u += "?timeout=60000&since=" + since
	}
	req, err := http.NewRequest(http.MethodGet, u, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(res.Body)
	_, after, _ := strings.Cut(string(body), `"next_batch":"`)
	next, _, _ = strings.Cut(after, `"`)
	return res.StatusCode, next, errors.Join(err, res.Body.Close())
}

// A restart on one machine: the parent process owns the socket, and no connection to it
// is refused or broken while the server behind it is replaced under load.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	if err := l.Close(); err != nil { // the copy keeps it open
		t.Fatal(err)
	}
	defer socket.Close()
	manager := notifications(t)
	dir := t.TempDir()
	begin := func() *process {
		serve := command(t, []string{"STOA_DATA_DIR=" + dir, "NOTIFY_SOCKET=" + manager.path, "LISTEN_FDS=1", "LISTEN_FDNAMES=client"})
		// Only the process itself knows its ID.
		cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" serve`, serve.Path)
		cmd.Env, cmd.ExtraFiles = serve.Env, []*os.File{socket}
		p := launch(t, cmd)
		manager.waitFor(t, "READY=1")
		return p
	}
	p := begin()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g sync.WaitGroup
	var answered atomic.Int64
	for i := range 8 {
		g.Go(func() {
			// net/http retries where HTTP allows it: if a kept-alive connection ends
			// before the answer begins.
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
			for ctx.Err() == nil {
				got, err := fetch(c, url+"/_matrix/client/versions", "")
				if err != nil || got.status != http.StatusOK {
					t.Errorf("%+v, %v", got, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for range 3 {
		before := answered.Load()
		waitFor(t, func() bool { return answered.Load() > before+100 })
		p.end(t)
		manager.waitFor(t, "STOPPING=1")
		p = begin()
	}
	before := answered.Load()
	waitFor(t, func() bool { return answered.Load() > before+100 })
	cancel()
	g.Wait()
	p.end(t)
}

// manager plays a service manager that receives the state of a process.
type manager struct {
	path  string
	tells chan string
}

func notifications(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "stoa-notify-") // the test's own directory may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{path: filepath.Join(dir, "s"), tells: make(chan string, 100)}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(c.Close(), os.RemoveAll(dir)) }) // nothing of it is needed any more
	go func() {
		var b [1024]byte
		for {
			n, err := c.Read(b[:])
			if err != nil {
				return
			}
			m.tells <- string(b[:n])
		}
	}()
	return m
}

func (m *manager) waitFor(t *testing.T, state string) {
	t.Helper()
	select {
	case is := <-m.tells:
		if strings.TrimSpace(is) != state {
			t.Fatalf("told %q, not %q", is, state)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("was not told %s", state)
	}
}

func TestAssignSockets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		named []string
		want  string // the assigned names, or the error
	}{
		"one_of_any_name_is_for_clients": {[]string{"stoa.socket"}, "client"},
		"each_has_its_name":              {[]string{"client", "federation", "admin"}, "admin client federation"},
		"a_name_of_none":                 {[]string{"client", "web"}, "FileDescriptorName"},
		"two_of_one_name":                {[]string{"client", "client"}, "FileDescriptorName"},
		"none":                           {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			named := map[string][]net.Listener{}
			for _, n := range c.named {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				named[n] = append(named[n], l)
			}
			sockets, err := assign(named)
			if err != nil {
				if c.want == "" || !strings.Contains(err.Error(), c.want) {
					t.Error(err)
				}
				return
			}
			var got []string
			for _, known := range []string{"admin", "client", "federation"} {
				if sockets[known] != nil {
					got = append(got, known)
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%v, want %s", got, c.want)
			}
		})
	}
}

// Three processes that start at the same moment on an empty database are one server, with
// one schema, one signing key and one secret. Each has its own directory, with nothing
// that another one needs.
func TestStartTogether(t *testing.T) {
	t.Parallel()
	url := storetest.EmptyURL(t, "postgres")
	var dirs []string
	var all []*process
	media := t.TempDir()
	for i := range 3 {
		dir := t.TempDir()
		dirs = append(dirs, dir)
		all = append(all, launch(t, command(t, []string{"STOA_DATABASE=" + url, "STOA_DATA_DIR=" + dir, "STOA_CLIENT_LISTEN=127.0.0.1:0", "STOA_MEDIA_FOLDER=" + media,
			"STOA_REGISTRATION=open", "STOA_SECRET_KEY=correct horse battery", fmt.Sprintf("STOA_INSTANCE=i%d", i)}, "serve")))
	}
	for _, p := range all {
		p.url = "http://" + addrPattern.FindStringSubmatch(p.log.waitFor(t, "server started"))[1]
	}
	token := register(t, all[0].url)
	for i, p := range all {
		got, err := fetch(http.DefaultClient, p.url+"/_matrix/client/v3/account/whoami", token)
		if want := (answer{http.StatusOK, false, fmt.Sprintf("i%d", i)}); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	for i, dir := range dirs {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if f.Name() != "stoa.sock" {
				t.Errorf("instance %d keeps %s to itself", i, f.Name())
			}
		}
	}
	for _, p := range all {
		p.end(t)
	}
	st, err := store.Open(t.Context(), store.Options{URL: url, ServerName: storetest.ServerName})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = st.Read(t.Context(), func(r *store.Read) error {
		keys, err := keydb.SigningKeys(r)
		if len(keys) != 1 {
			t.Errorf("%d signing keys", len(keys))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A program that is too old for the database explains what to do, and does not start.
func TestServeRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := start(t, "STOA_DATA_DIR="+dir)
	if err := srv.stop(); err != nil {
		t.Fatal(err)
	}
	sqlite(t, filepath.Join(dir, "stoa.db"), "UPDATE meta SET value = '9999' WHERE name = 'schema_compatible'")
	status, _, stderr := run(srv.environ, "", "serve")
	if status != 1 || !strings.Contains(stderr, "9999") || !strings.Contains(stderr, "start that version or a newer one") {
		t.Errorf("%d: %s", status, stderr)
	}
}

// sqlite changes a database that no server has open.
func sqlite(t *testing.T, path, script string) {
	t.Helper()
	c, err := zombie.OpenConn(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sqlitex.ExecuteScript(c, script, nil), c.Close()); err != nil {
		t.Fatal(err)
	}
}

func decode(t *testing.T, res *http.Response, into any) {
	t.Helper()
	if err := errors.Join(json.NewDecoder(res.Body).Decode(into), res.Body.Close()); err != nil {
		t.Fatal(err)
	}
}

// A server collects garbage less often than the runtime does by default, unless the
// operator sets it.
func TestGOGCDecides(t *testing.T) {
	t.Parallel()
	for gogc, wanted := range map[string]func(percent float64) bool{
		"":    func(percent float64) bool { return percent > 100 },
		"150": func(percent float64) bool { return percent == 150 },
	} {
		t.Run("GOGC="+gogc, func(t *testing.T) {
			t.Parallel()
			admin := filepath.Join(t.TempDir(), "admin")
			p := startProcess(t, "GOGC="+gogc, "STOA_ADMIN_LISTEN=unix:"+admin)
			page := readAdmin(t, admin, "/metrics")
			line := gogcPattern.FindStringSubmatch(page)
			if line == nil {
				t.Fatal(page)
			}
			if percent, err := strconv.ParseFloat(line[1], 64); err != nil || !wanted(percent) {
				t.Errorf("%s %%, %v", line[1], err)
			}
			p.end(t)
		})
	}
}

var gogcPattern = regexp.MustCompile(`(?m)^go_gc_gogc_percent (\S+)$`)

// readAdmin reads a page of an admin listener on a socket.
func readAdmin(t *testing.T, socket, path string) string {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	_, _, page := getBy(t, c, "http://admin"+path)
	return page
}
