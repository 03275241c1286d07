// Command rustpeer has people on the unmodified matrix-rust-sdk (src/main.rs) talk on a server: with the older /sync and with
// sliding sync on one instance, which is killed halfway, and with sliding sync on three instances, of which each request
// goes to the next, and all of which are killed halfway.
//
// It owns the servers that it starts, the proxy before them, and the Rust program; make rust-peer builds that. It never
// speaks to a client itself. The one invariant: no message that a client sent is missing or unreadable on another device.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"stoa/test/kit"
	"stoa/test/kit/database"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rust-peer: FAILED:", err)
		os.Exit(1)
	}
}

// scenario is a conversation in a way to sync, on a number of instances.
type scenario struct {
	name, mode string
	instances  int
}

var scenarios = []scenario{
	{"sync", "sync", 1},
	{"sliding", "sliding", 1},
	{"three", "sliding", 3},
}

func run(args []string) error {
	flags := flag.NewFlagSet("rustpeer", flag.ContinueOnError)
	binary := flags.String("binary", "bin/stoa", "the server under test")
	peer := flags.String("peer", "", "the Rust program")
	postgres := flags.String("postgres", os.Getenv("STOA_TEST_POSTGRES"), "URL of a PostgreSQL server's database postgres")
	only := flags.String("only", "", "names of scenarios, with commas: sync, sliding, three; all if empty")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, s := range scenarios {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), s.name) {
			continue
		}
		started := time.Now()
		said, err := s.run(*binary, *peer, *postgres)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Printf("rust-peer: %s: passed in %.1f s: %s\n", s.name, time.Since(started).Seconds(), said)
	}
	return nil
}

func (s scenario) run(binary, peer, postgres string) (said string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "stoa-rustpeer-")
	if err != nil {
		return "", err
	}
	servers, end, err := s.servers(ctx, binary, dir, postgres)
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		for _, server := range servers {
			if server.Process != nil {
				server.Kill()
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "the log of %s ends:\n%s\n", server.Name, server.Log())
			}
		}
		err = errors.Join(err, end(), os.RemoveAll(dir))
	}()
	p := newProxy(servers)
	proxy := httptest.NewServer(p)
	defer proxy.Close()
	for _, server := range servers { // a login tells clients the address to use
		server.Settings = append(server.Settings, "STOA_PUBLIC_URL="+proxy.URL)
	}
	if err := start(servers); err != nil {
		return "", err
	}
	client := kit.Client{Base: proxy.URL, HTTP: http.DefaultClient}
	for _, name := range []string{"ada", "bob"} {
		if _, err := client.Register(ctx, name); err != nil {
			return "", err
		}
	}
	err = talk(ctx, exec.CommandContext(ctx, peer, proxy.URL, s.mode, kit.Password, "ada", "bob"), func() error {
		for _, server := range servers {
			server.Kill()
		}
		return start(servers)
	})
	return p.report(), errors.Join(err, p.check(s))
}

// servers makes the servers; end removes what they had elsewhere.
func (s scenario) servers(ctx context.Context, binary, dir, postgres string) (list []*kit.Server, end func() error, err error) {
	settings := []string{"STOA_SERVER_NAME=rust.test", "STOA_REGISTRATION=open", "STOA_USER_LIMITS=off"}
	if s.instances == 1 {
		server, err := kit.NewServer("server", binary, dir, settings...)
		return []*kit.Server{server}, func() error { return nil }, err
	}
	name := fmt.Sprintf("rustpeer_%d", os.Getpid())
	address, err := database.New(ctx, postgres, name)
	if err != nil {
		return nil, nil, err
	}
	list, err = kit.NewInstances(binary, dir, address, []string{"a", "b", "c"}[:s.instances], settings...)
	return list, func() error { return database.Drop(context.Background(), postgres, name) }, err
}

func start(servers []*kit.Server) error {
	for _, server := range servers {
		if err := server.Start(); err != nil {
			return fmt.Errorf("start %s: %w", server.Name, err)
		}
	}
	return nil
}

// talk runs the Rust program, and restart when it pauses.
func talk(ctx context.Context, cmd *exec.Cmd, restart func() error) error {
	var log kit.Output
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var last string
	var failed error
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if last = lines.Text(); last == "pause" {
			if failed = restart(); failed != nil {
				break
			}
			if _, failed = io.WriteString(in, "go on\n"); failed != nil {
				break
			}
		}
	}
	if failed != nil {
		cmd.Process.Kill() // it may be gone already, which is as good
	}
	if err := cmd.Wait(); err != nil || last != "done" {
		return errors.Join(failed, fmt.Errorf("the Rust program ended after %q: %w\n%s", last, err, log.String()))
	}
	return failed
}

// proxy gives each request to the next instance, and notes which connections of sliding sync there are.
type proxy struct {
	targets []*httputil.ReverseProxy

	mu          sync.Mutex // guards what follows
	next        int
	connections map[string]int // requests of sliding sync by conn_id
	lost        int            // answers that ended a connection of sliding sync
}

func newProxy(servers []*kit.Server) *proxy {
	p := &proxy{connections: map[string]int{}}
	for _, server := range servers {
		target := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: server.Listen})
		target.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
		target.ModifyResponse = p.watch
		p.targets = append(p.targets, target)
	}
	return p
}

const slidingPath = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == slidingPath {
		body, err := io.ReadAll(r.Body)
		var asked struct {
			Connection string `json:"conn_id"`
		}
		if err == nil {
			err = json.Unmarshal(body, &asked)
		}
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		p.mu.Lock()
		p.connections[asked.Connection]++
		p.mu.Unlock()
	}
	p.mu.Lock()
	target := p.targets[p.next%len(p.targets)]
	p.next++
	p.mu.Unlock()
	target.ServeHTTP(w, r)
}

// watch counts refusals of sliding sync: none of them is right here.
func (p *proxy) watch(r *http.Response) error {
	if r.Request.URL.Path == slidingPath && r.StatusCode >= 400 && r.StatusCode < 500 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lost++
	}
	return nil
}

func (p *proxy) report() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	said := fmt.Sprintf("%d requests", p.next)
	for _, name := range slices.Sorted(maps.Keys(p.connections)) {
		said += fmt.Sprintf(", %d of connection %q", p.connections[name], name)
	}
	return said
}

// check wants two connections of sliding sync that outlived the restart.
func (p *proxy) check(s scenario) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.mode != "sliding" {
		return nil
	}
	if len(p.connections) != 2 {
		return fmt.Errorf("the connections of sliding sync are %v, want two", p.connections)
	}
	if p.lost > 0 {
		return fmt.Errorf("%d requests of sliding sync were refused", p.lost)
	}
	return nil
}
