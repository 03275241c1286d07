package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

type options struct {
	binary, deploy, database string
	poll                     time.Duration
	balancers                []string
}

// startWithin bounds the start of a process; the machine may be busy.
const startWithin = 30 * time.Second

// names are those of the instances.
var names = []string{"a", "b", "c"}

// world is everything that runs.
type world struct {
	opt       options
	dir       string // for data and logs
	database  string // name of the database that was made
	instances []*instance
	balancers []*balancer
}

func newWorld(ctx context.Context, opt options) (*world, error) {
	if opt.database == "" {
		return nil, errors.New("STOA_TEST_POSTGRES is needed: run scripts/balancers")
	}
	var err error
	for _, path := range []*string{&opt.binary, &opt.deploy} {
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	w := &world{opt: opt, database: fmt.Sprintf("balancers_%d", os.Getpid())}
	if w.dir, err = os.MkdirTemp("", "stoa-balancers-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(w.dir, 0o755); err != nil { // balancers give up being root
		return nil, err
	}
	if err := w.inDatabase(ctx, "CREATE DATABASE "+w.database); err != nil {
		return nil, errors.Join(err, os.RemoveAll(w.dir))
	}
	return w, nil
}

// inDatabase runs a statement on the server in which our database is made.
func (w *world) inDatabase(ctx context.Context, sql string) error {
	c, err := pgx.Connect(ctx, w.opt.database)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql)
	return errors.Join(err, c.Close(ctx))
}

func (w *world) start() error {
	ports, err := freePorts(len(names) + 2*len(w.opt.balancers))
	if err != nil {
		return err
	}
	database, err := url.Parse(w.opt.database)
	if err != nil {
		return err
	}
	database.Path = "/" + w.database
	for i, name := range names {
		w.instances = append(w.instances, &instance{name: name, addr: ports[i], dir: filepath.Join(w.dir, name), binary: w.opt.binary,
			database: database.String()})
	}
	// All at once, on an empty database.
	for _, i := range w.instances {
		if err := i.start(); err != nil {
			return err
		}
	}
	for _, i := range w.instances {
		if err := i.awaitReady(); err != nil {
			return err
		}
	}
	ports = ports[len(names):]
	for i, name := range w.opt.balancers {
		b, err := w.startBalancer(name, ports[2*i], ports[2*i+1], eachToTheNext)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		w.balancers = append(w.balancers, b)
	}
	return nil
}

// close ends all processes; the logs are printed if something failed.
func (w *world) close(failed bool) error {
	for _, b := range w.balancers {
		b.process.kill()
	}
	for _, i := range w.instances {
		i.process.kill()
	}
	if failed {
		logs, err := filepath.Glob(filepath.Join(w.dir, "*.log"))
		if err != nil {
			return err
		}
		for _, name := range logs {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "--- end of %s\n%s\n", filepath.Base(name), text[max(0, len(text)-4000):])
		}
	}
	return errors.Join(w.inDatabase(context.Background(), "DROP DATABASE "+w.database+" WITH (FORCE)"), os.RemoveAll(w.dir))
}

// freePorts gives addresses on loopback that nobody listens on.
func freePorts(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // once all are known, so that none is given twice
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// instance is one server. Its address and data outlive its process.
type instance struct {
	name, addr, dir, binary, database string
	process                           *process
}

func (i *instance) start() (err error) {
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return err
	}
	i.process, err = startProcess(i.name, filepath.Dir(i.dir), []string{
		"STOA_SERVER_NAME=balancers.test", "STOA_INSTANCE=" + i.name, "STOA_CLIENT_LISTEN=" + i.addr, "STOA_DATA_DIR=" + i.dir,
		"STOA_DATABASE=" + i.database, "STOA_TRUSTED_PROXIES=127.0.0.1", "STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off",
		"STOA_CLUSTER_LISTEN=127.0.0.1:0",
	}, i.binary, "serve")
	return err
}

func (i *instance) awaitReady() error {
	return i.process.await(func() error { return ready("http://" + i.addr + "/ready") })
}

func ready(address string) error {
	c := http.Client{Timeout: time.Second}
	res, err := c.Get(address)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", address, res.StatusCode)
	}
	return nil
}

// process is a program with its log in a file. It ends with this process.
type process struct {
	name string
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
}

// logFile is where a program's output goes.
func logFile(dir, name string) string { return filepath.Join(dir, name+".log") }

// startProcess starts a program; its output is appended to dir/name.log.
func startProcess(name, dir string, env []string, words ...string) (*process, error) {
	log, err := os.OpenFile(logFile(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	p := &process{name: name, cmd: exec.Command(words[0], words[1:]...), gone: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // its exit code is read from ProcessState
		close(p.gone)
	}()
	return p, nil
}

// kill ends a process and what it started, and waits.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // may have ended
	<-p.gone
}

// terminate tells a process to stop and gives how long that took.
func (p *process) terminate() (time.Duration, error) {
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-p.gone:
	case <-time.After(startWithin):
		return 0, fmt.Errorf("%s did not end within %v", p.name, startWithin)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return 0, fmt.Errorf("%s ended with status %d", p.name, code)
	}
	return time.Since(began), nil
}

// await asks until f says nil.
func (p *process) await(f func() error) error {
	deadline := time.Now().Add(startWithin)
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-p.gone:
			return fmt.Errorf("%s ended by itself with status %d", p.name, p.cmd.ProcessState.ExitCode())
		case <-time.After(20 * time.Millisecond): // nothing announces an open port
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready within %v: %w", p.name, startWithin, err)
		}
	}
}
