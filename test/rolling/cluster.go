package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"syscall"
	"time"
)

const (
	startWithin = 30 * time.Second // the machine may be busy
	stopWithin  = 10 * time.Second // is promised
)

// cluster is some instances on one database behind a balancer.
type cluster struct {
	dir, config, database string
	address               string // of the balancer
	instances             []*instance
	balancer              *process
}

// instance is one place for a program, with an address that stays.
type instance struct {
	name, listen string
	process      *process
}

// process is a running program. Its log is a file in the folder of the run.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
	err  error         // how, after gone
}

func launch(cmd *exec.Cmd, logFile string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, gone: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.gone)
	}()
	return p, nil
}

// await asks an address until it answers.
func (p *process) await(url string) error {
	deadline := time.Now().Add(startWithin)
	for time.Now().Before(deadline) {
		res, err := http.Get(url)
		if err == nil {
			err = res.Body.Close()
			if err == nil && res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.gone:
			return fmt.Errorf("%s ended by itself: %w", p.cmd, p.err)
		case <-time.After(20 * time.Millisecond): // nothing announces an open port
		}
	}
	return fmt.Errorf("%s did not answer within %v", p.cmd, startWithin)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// start starts an instance of the program for each name, and the balancer.
func (c *cluster) start(b build) error {
	for _, name := range names {
		listen, err := freeAddress()
		if err != nil {
			return err
		}
		c.instances = append(c.instances, &instance{name: name, listen: listen})
	}
	for i := range c.instances {
		if err := c.startInstance(i, b); err != nil {
			return err
		}
	}
	return c.startBalancer()
}

// command is a command line of the program on the cluster's database.
func (c *cluster) command(b build, dataDir string, args ...string) *exec.Cmd {
	cmd := exec.Command(b.binary, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "STOA_SERVER_NAME=rolling.test", "STOA_DATABASE="+c.database, "STOA_DATA_DIR="+dataDir,
		"STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off", "STOA_TRUSTED_PROXIES=127.0.0.1", "STOA_SECRET_KEY=a secret of this test alone")
	return cmd
}

func (c *cluster) startInstance(i int, b build) error {
	in := c.instances[i]
	cmd := c.command(b, filepath.Join(c.dir, in.name), "serve")
	cmd.Env = append(cmd.Env, "STOA_INSTANCE="+in.name, "STOA_CLIENT_LISTEN="+in.listen)
	var err error
	if in.process, err = launch(cmd, filepath.Join(c.dir, in.name+".log")); err != nil {
		return err
	}
	// Not /ready: that is for the balancer, from whose questions the instance tells
	// how often it asks.
	return in.process.await("http://" + in.listen + "/_matrix/client/versions")
}

func (c *cluster) startBalancer() error {
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	config, err := filepath.Abs(c.config)
	if err != nil {
		return err
	}
	cmd := exec.Command("haproxy", "-db", "-f", config)
	cmd.Env = append(os.Environ(), "STOA_BIND="+listen, "STOA_BALANCE=roundrobin")
	if me.Uid != "0" {
		cmd.Env = append(cmd.Env, "STOA_BALANCER_USER="+me.Username)
	}
	for i, in := range c.instances {
		cmd.Env = append(cmd.Env, fmt.Sprintf("STOA_%d=%s", i+1, in.listen))
	}
	if c.balancer, err = launch(cmd, filepath.Join(c.dir, "haproxy.log")); err != nil {
		return err
	}
	c.address = "http://" + listen
	return c.balancer.await(c.address + "/_matrix/client/versions")
}

// replaceAll replaces one instance after the other.
func (c *cluster) replaceAll(t *town, phase string, b build) error {
	t.enter(phase)
	for i := range c.instances {
		if err := c.replace(t, i, b); err != nil {
			return err
		}
	}
	return nil
}

// replace tells an instance to end, starts the other program in its place, and waits
// until the balancer uses it.
func (c *cluster) replace(t *town, i int, b build) error {
	in := c.instances[i]
	began := time.Now()
	if err := in.process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-in.process.gone:
	case <-time.After(stopWithin):
		return fmt.Errorf("instance %s did not end within %v", in.name, stopWithin)
	}
	if in.process.err != nil {
		return fmt.Errorf("instance %s ended: %w", in.name, in.process.err)
	}
	stopped := time.Since(began)
	began = time.Now()
	if err := c.startInstance(i, b); err != nil {
		return fmt.Errorf("instance %s with the %s program: %w", in.name, b.label, err)
	}
	started := time.Since(began)
	if err := t.await(in.name); err != nil {
		return err
	}
	fmt.Printf("rolling: %s is %s now: the old one stopped in %d ms, the new one started in %d ms, used again after %d ms\n",
		in.name, b.label, stopped.Milliseconds(), started.Milliseconds(), time.Since(began).Milliseconds())
	return nil
}

// kill ends what still runs.
func (c *cluster) kill() {
	all := []*process{c.balancer}
	for _, in := range c.instances {
		all = append(all, in.process)
	}
	for _, p := range all {
		if p == nil {
			continue
		}
		if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			fmt.Fprintln(os.Stderr, "rolling: end", p.cmd, err)
		}
		<-p.gone
	}
}
