// Package deployment runs the homeservers of the conformance suite as local processes instead of containers.
// scripts/complement copies it into a checkout of the suite; it does not build here.
package deployment

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/matrix-org/complement"
	"github.com/matrix-org/complement/client"
	"github.com/matrix-org/complement/config"
	"github.com/matrix-org/complement/ct"
	"github.com/matrix-org/complement/helpers"
	"github.com/matrix-org/gomatrixserverlib/spec"
)

// startTimeout bounds the start of one server.
const startTimeout = 30 * time.Second

// processes are the servers of one test: hs1, hs2 and so on.
type processes struct {
	config  *config.Complement
	servers map[string]*server
	names   atomic.Int64
}

// server is one homeserver: its files, and its process while it runs.
type server struct {
	name, dir, listen string
	cmd               *exec.Cmd

	mu      sync.Mutex
	clients []*client.CSAPI
}

// Deploy starts the servers of a test. COMPLEMENT_STOA is the program. Other STOA_ variables go to it as they are.
func Deploy(t ct.TestLike, numServers int, cfg *config.Complement) complement.Deployment {
	t.Helper()
	p := &processes{config: cfg, servers: map[string]*server{}}
	for i := range numServers {
		dir, err := os.MkdirTemp("", "complement-")
		if err != nil {
			ct.Fatalf(t, "%s", err)
		}
		s := &server{name: fmt.Sprintf("hs%d", i+1), dir: dir, listen: freeAddress(t)}
		p.servers[s.name] = s
		if err := s.start(); err != nil {
			p.Destroy(t)
			ct.Fatalf(t, "%s", err)
		}
	}
	return p
}

func freeAddress(t ct.TestLike) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		ct.Fatalf(t, "%s", err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *server) start() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(os.Getenv("COMPLEMENT_STOA"), "serve")
	s.cmd.Env = append(os.Environ(), "STOA_SERVER_NAME="+s.name, "STOA_DATA_DIR="+filepath.Join(s.dir, "data"),
		"STOA_CLIENT_LISTEN="+s.listen, "STOA_PUBLIC_URL=http://"+s.listen, "STOA_REGISTRATION=open",
		"STOA_REGISTRATION_SHARED_SECRET="+client.SharedSecret, "STOA_RATE_LIMITS=off", "STOA_PASSWORD_MIN_LENGTH=1", "STOA_FEDERATION_ALLOW_PRIVATE=true")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.listen+"/_matrix/client/versions", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w\n%s", s.name, err, s.log())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *server) log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// end stops the process with a signal and waits for it.
func (s *server) end(sig syscall.Signal) error {
	if s.cmd == nil || s.cmd.Process == nil || s.cmd.ProcessState != nil {
		return nil
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		return err
	}
	_ = s.cmd.Wait() // the status of a process that was told to end
	return nil
}

func (s *server) newClient(t ct.TestLike, cfg *config.Complement, password string) *client.CSAPI {
	c := client.NewCSAPI(client.CSAPIOpts{
		BaseURL: "http://" + s.listen, Client: client.NewLoggedClient(t, s.name, nil), SyncUntilTimeout: 5 * time.Second,
		Debug: cfg.DebugLoggingEnabled, Password: password,
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, c)
	return c
}

func (p *processes) server(t ct.TestLike, name string) *server {
	t.Helper()
	s := p.servers[name]
	if s == nil {
		ct.Fatalf(t, "no server %q in this deployment", name)
	}
	return s
}

func (p *processes) GetFullyQualifiedHomeserverName(t ct.TestLike, hsName string) spec.ServerName {
	return spec.ServerName(p.server(t, hsName).name)
}

func (p *processes) UnauthenticatedClient(t ct.TestLike, hsName string) *client.CSAPI {
	return p.server(t, hsName).newClient(t, p.config, "")
}

func (p *processes) Register(t ct.TestLike, hsName string, opts helpers.RegistrationOpts) *client.CSAPI {
	t.Helper()
	if opts.Password == "" {
		opts.Password = "complement_meets_min_password_req"
	}
	c := p.server(t, hsName).newClient(t, p.config, opts.Password)
	localpart := fmt.Sprintf("user-%d", p.names.Add(1))
	if opts.LocalpartSuffix != "" {
		localpart += "-" + opts.LocalpartSuffix
	}
	if opts.IsAdmin {
		c.UserID, c.AccessToken, c.DeviceID = c.RegisterSharedSecret(t, localpart, opts.Password, true)
	} else {
		c.UserID, c.AccessToken, c.DeviceID = c.RegisterUser(t, localpart, opts.Password)
	}
	return c
}

func (p *processes) Login(t ct.TestLike, hsName string, existing *client.CSAPI, opts helpers.LoginOpts) *client.CSAPI {
	t.Helper()
	password := existing.Password
	if opts.Password != "" {
		password = opts.Password
	}
	c := p.server(t, hsName).newClient(t, p.config, password)
	localpart, _, _ := strings.Cut(strings.TrimPrefix(existing.UserID, "@"), ":")
	var more []client.LoginOpt
	if opts.DeviceID != "" {
		more = append(more, client.WithDeviceID(opts.DeviceID))
	}
	c.UserID, c.AccessToken, c.DeviceID = c.LoginUser(t, localpart, password, more...)
	return c
}

func (p *processes) AppServiceUser(t ct.TestLike, _, _ string) *client.CSAPI {
	ct.Fatalf(t, "application services are not served")
	return nil
}

func (p *processes) Restart(t ct.TestLike) error {
	t.Helper()
	for name := range p.servers {
		p.StopServer(t, name)
		p.StartServer(t, name)
	}
	return nil
}

func (p *processes) StopServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := p.server(t, hsName).end(syscall.SIGTERM); err != nil {
		ct.Fatalf(t, "%s", err)
	}
}

func (p *processes) StartServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := p.server(t, hsName).start(); err != nil {
		ct.Fatalf(t, "%s", err)
	}
}

func (p *processes) PauseServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := p.server(t, hsName).cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		ct.Fatalf(t, "%s", err)
	}
}

func (p *processes) UnpauseServer(t ct.TestLike, hsName string) {
	t.Helper()
	if err := p.server(t, hsName).cmd.Process.Signal(syscall.SIGCONT); err != nil {
		ct.Fatalf(t, "%s", err)
	}
}

func (p *processes) ContainerID(t ct.TestLike, hsName string) string {
	ct.Fatalf(t, "%s is a process, not a container", hsName)
	return ""
}

func (p *processes) Destroy(t ct.TestLike) {
	t.Helper()
	for _, s := range p.servers {
		if t.Failed() {
			t.Logf("log of %s:\n%s", s.name, s.log())
		}
		if err := s.end(syscall.SIGKILL); err != nil {
			t.Errorf("%s", err)
		}
		if err := os.RemoveAll(s.dir); err != nil {
			t.Errorf("%s", err)
		}
	}
}

func (p *processes) GetConfig() *config.Complement { return p.config }

func (p *processes) Network() string { return "" }

// RoundTripper sends requests for hs1, hs2 and so on to the servers.
func (p *processes) RoundTripper() http.RoundTripper {
	return &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if s := p.servers[host]; s != nil {
				address = s.listen
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
}
