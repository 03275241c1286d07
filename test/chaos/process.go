package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// startWithin bounds the start of a process; the machine may be busy.
const startWithin = 30 * time.Second

// process is a program with its log in a file. It ends with this process.
type process struct {
	name string
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
	exit int           // read after gone
}

// startProcess starts a program; its output is appended to dir/name.log.
func startProcess(name, dir string, env []string, as *syscall.Credential, words ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	p := &process{name: name, cmd: exec.Command(words[0], words[1:]...), gone: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: as}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // its exit code says all
		p.exit = p.cmd.ProcessState.ExitCode()
		close(p.gone)
	}()
	return p, nil
}

func (p *process) signal(s syscall.Signal) {
	_ = syscall.Kill(-p.cmd.Process.Pid, s) // it may have ended by itself
}

// kill ends it and everything it started, and waits.
func (p *process) kill() {
	if p == nil {
		return
	}
	p.signal(syscall.SIGKILL)
	<-p.gone
}

// await asks until ready says nil.
func (p *process) await(ready func() error) error {
	deadline := time.Now().Add(startWithin)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.gone:
			return fmt.Errorf("%s ended by itself with code %d", p.name, p.exit)
		case <-time.After(20 * time.Millisecond): // nothing announces an open port
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready within %v: %w", p.name, startWithin, err)
		}
	}
}

// startPostgres makes a new cluster, reachable by a unix socket in dir and in
// the network for it.
func startPostgres(bin, dir string) (*process, error) {
	if bin == "" {
		return nil, errors.New("-postgres-bin is needed: the folder of initdb and postgres (Debian package postgresql)")
	}
	dir = filepath.Join(dir, "pg")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	u, err := user.Lookup("postgres") // PostgreSQL refuses to run as root
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Chown(dir, uid, gid)); err != nil {
		return nil, err
	}
	as := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	data := filepath.Join(dir, "data")
	initdb, err := startProcess("initdb", dir, nil, as, filepath.Join(bin, "initdb"), "-D", data, "-U", "stoa", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	if err != nil {
		return nil, err
	}
	<-initdb.gone
	hba, err := os.OpenFile(filepath.Join(data, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("initdb (code %d): %w", initdb.exit, err)
	}
	_, err = fmt.Fprintf(hba, "host all all %s/24 trust\n", hubAddr(netDatabase))
	if err := errors.Join(err, hba.Close()); err != nil {
		return nil, err
	}
	p, err := startProcess("postgres", dir, nil, as, filepath.Join(bin, "postgres"), "-D", data, "-k", dir,
		"-c", "listen_addresses="+hubAddr(netDatabase), "-c", "shared_buffers=128MB", "-c", "max_connections=200",
		"-c", "log_lock_waits=on", "-c", "log_line_prefix=%m [%p] ")
	if err != nil {
		return nil, err
	}
	return p, p.await(func() error {
		return exec.Command(filepath.Join(bin, "pg_isready"), "-q", "-h", dir, "-U", "stoa", "-d", "postgres").Run()
	})
}

func startRedis(dir string) (*process, error) {
	p, err := startProcess("redis", dir, nil, nil, "redis-server", "--bind", hubAddr(netRedis), "--port", "6379",
		"--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir", dir)
	if err != nil {
		return nil, err
	}
	return p, p.await(func() error {
		return exec.Command("redis-cli", "-h", hubAddr(netRedis), "ping").Run()
	})
}

// balancerPort is where the balancer takes clients.
const balancerPort = 8008

// startBalancer starts HAProxy with a file that finds the instances in its
// environment, as deploy/haproxy.cfg does.
func startBalancer(dir, file string, instances int) (*process, error) {
	p, err := startProcess("haproxy", dir, balancerEnviron(instances), nil, "haproxy", "-db", "-f", file)
	if err != nil {
		return nil, err
	}
	return p, p.await(func() error { return answers(balancerURL()+"/_matrix/client/versions", "") })
}

func balancerURL() string { return fmt.Sprintf("http://%s:%d", hubAddr(netClients), balancerPort) }

func balancerEnviron(instances int) []string {
	// Each request goes to another instance, so that clients see it if one knows less.
	env := []string{fmt.Sprintf("STOA_BIND=%s:%d", hubAddr(netClients), balancerPort), "STOA_BALANCE=roundrobin"}
	for n := range instances {
		env = append(env, fmt.Sprintf("STOA_%d=%s:%d", n+1, instanceAddr(netClients, n), clientPort))
	}
	return env
}

// answers says nil if a GET gives 200.
func answers(url, token string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", url, res.StatusCode)
	}
	return nil
}

// clientPort and clusterPort are the same on every instance.
const (
	clientPort  = 8008
	clusterPort = 8010
)

func instanceName(n int) string { return string(rune('a' + n)) }

// instance is one server in its namespace. Its processes come and go.
type instance struct {
	n           int
	binary, dir string
	redis       bool
	env         []string
	holder      *holder

	mu sync.Mutex // guards p
	p  *process
}

func (i *instance) url() string {
	return fmt.Sprintf("http://%s:%d", instanceAddr(netClients, i.n), clientPort)
}

func (i *instance) process() *process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.p
}

// start starts a process; it does not wait until it is ready.
func (i *instance) start() error {
	name := instanceName(i.n)
	data := filepath.Join(i.dir, name)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	env := append([]string{
		"STOA_SERVER_NAME=" + serverName, "STOA_INSTANCE=" + name, "STOA_DATA_DIR=" + data,
		fmt.Sprintf("STOA_CLIENT_LISTEN=%s:%d", instanceAddr(netClients, i.n), clientPort),
		fmt.Sprintf("STOA_CLUSTER_LISTEN=%s:%d", instanceAddr(netPeers, i.n), clusterPort),
		"STOA_DATABASE=" + databaseURL(), "STOA_RATE_LIMITS=off", "STOA_TRUSTED_PROXIES=" + hubAddr(netClients),
		"STOA_LOG_LEVEL=info", "STOA_PUBLIC_URL=" + balancerURL(),
	}, i.env...)
	if i.redis {
		env = append(env, "STOA_REDIS=redis://"+hubAddr(netRedis)+":6379")
	}
	p, err := startProcess(name, i.dir, env, nil, "nsenter", "--net="+i.holder.namespace(), "--", i.binary, "serve")
	if err != nil {
		return err
	}
	i.mu.Lock()
	i.p = p
	i.mu.Unlock()
	return nil
}

// awaitReady waits until the instance itself says that it is ready.
func (i *instance) awaitReady() error {
	return i.process().await(func() error { return answers(i.url()+"/ready", "") })
}

func databaseURL() string {
	return fmt.Sprintf("postgres://stoa@%s:5432/postgres?sslmode=disable", hubAddr(netDatabase))
}
