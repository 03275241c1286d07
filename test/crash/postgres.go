package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// postgres is a cluster of our own, so that it can be killed.
type postgres struct {
	bin, dir string
	attr     syscall.SysProcAttr
	cmd      *exec.Cmd
	gone     chan struct{}
}

func startPostgres(bin string) (*postgres, error) {
	if bin == "" {
		return nil, errors.New("-postgres-bin is needed: the folder of initdb and postgres (Debian package postgresql)")
	}
	dir, err := os.MkdirTemp("", "stoa-crash-pg-")
	if err != nil {
		return nil, err
	}
	p := &postgres{bin: bin, dir: dir, attr: syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}}
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2, os.Chown(dir, uid, gid)); err != nil {
			return nil, err
		}
		p.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", p.data(), "-U", "stoa", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	initdb.Dir, initdb.SysProcAttr = dir, &p.attr
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return p, p.start()
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *postgres) url() string { return "postgres://stoa@/postgres?host=" + p.dir }

// start starts the database, again and again while processes of the killed one are still there: they lead process groups
// of their own, end only when they notice that their parent is gone, and it refuses to start beside them.
func (p *postgres) start() error {
	deadline := time.Now().Add(startWithin)
	for tries := 1; ; tries++ {
		ended, err := p.launch(deadline)
		if err == nil {
			return nil
		}
		if !ended || time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL did not start within %v, tried %d times: %w", startWithin, tries, err)
		}
		time.Sleep(100 * time.Millisecond) // nobody tells when the old processes are gone
	}
}

// launch starts the database once and waits until it answers, or has ended by itself.
func (p *postgres) launch(deadline time.Time) (ended bool, err error) {
	var said bytes.Buffer
	p.cmd = exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.data(), "-k", p.dir, "-c", "listen_addresses=",
		"-c", "shared_buffers=64MB", "-c", "log_min_messages=fatal")
	p.cmd.Dir, p.cmd.SysProcAttr, p.cmd.Stderr = p.dir, &p.attr, &said
	p.cmd.WaitDelay = time.Second // processes of its own may hold the pipe for longer
	if err := p.cmd.Start(); err != nil {
		return false, err
	}
	p.gone = make(chan struct{})
	cmd, gone := p.cmd, p.gone
	go func() {
		_ = cmd.Wait() // being killed is what it is there for
		close(gone)
	}()
	for time.Now().Before(deadline) {
		ready := exec.Command(filepath.Join(p.bin, "pg_isready"), "-q", "-h", p.dir, "-U", "stoa", "-d", "postgres")
		if ready.Run() == nil {
			return false, nil
		}
		select {
		case <-gone:
			return true, fmt.Errorf("it ended and said:\n%s", said.String())
		case <-time.After(20 * time.Millisecond): // the database has no other way to say that it is up
		}
	}
	return false, errors.New("it runs and does not answer")
}

// kill ends all processes of the cluster at once.
func (p *postgres) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // may be gone already
	<-p.gone
}

func (p *postgres) remove() error {
	p.kill()
	return os.RemoveAll(p.dir)
}
