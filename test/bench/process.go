package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server under load: the server itself or a floor.
type process struct {
	cmd   *exec.Cmd
	addr  string
	admin string // address of the admin listener; "" = it has none
	log   bytes.Buffer
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// startFloor runs this binary again as one of the floors (floor.go).
func startFloor(kind, dir string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self, "floor", kind, addr, dir), addr: addr}
	return p, p.start("/ready")
}

// startServer runs the binary under test on a data directory, with settings of
// its own besides those that all have.
func startServer(binary, dir, database string, settings ...string) (*process, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(binary, "serve"), addr: addr}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "STOA_SERVER_NAME=bench", "STOA_CLIENT_LISTEN="+addr, "STOA_DATA_DIR="+dir,
		"STOA_DATABASE="+database, "STOA_RATE_LIMITS=off", "STOA_REGISTRATION=closed", "STOA_LOG_LEVEL=warn")
	p.cmd.Env = append(p.cmd.Env, settings...)
	return p, p.start("/_matrix/client/versions")
}

func (p *process) start(path string) error {
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	if _, err := awaitReady(p.addr, path, time.Minute); err != nil {
		p.stop()
		return fmt.Errorf("%w; its log:\n%s", err, p.log.String())
	}
	return nil
}

func (p *process) stop() {
	if p.cmd.Process == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM) // may have ended by itself
	done := make(chan struct{})
	go func() { p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		p.cmd.Process.Kill()
		<-done
	}
}

// cpu is the user and system time that the process has used so far.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "stat"))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("unexpected /proc stat: %q", stat)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100), errors.Join(err1, err2)
}

// resident is the resident memory in bytes.
func (p *process) resident() (int64, error) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if kb, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(kb, "kB")), 10, 64)
			return n * 1024, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// load runs this binary again as a client with the spec on its standard input
// and decodes what it prints.
type load struct {
	cmd   *exec.Cmd
	out   bytes.Buffer
	err   bytes.Buffer
	ended chan struct{} // closed when the process is gone
	fault error         // why it failed; read after ended
}

func startLoad(kind string, spec any) (*load, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	in, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	l := &load{cmd: exec.Command(self, "load", kind), ended: make(chan struct{})}
	l.cmd.Stdin, l.cmd.Stdout, l.cmd.Stderr = bytes.NewReader(in), &l.out, &l.err
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { l.fault = l.cmd.Wait(); close(l.ended) }()
	return l, nil
}

// wait gives the client's result and the CPU that it took.
func (l *load) wait(result any) (time.Duration, error) {
	<-l.ended
	if l.fault != nil {
		return 0, fmt.Errorf("load: %w: %s", l.fault, l.err.String())
	}
	state := l.cmd.ProcessState
	return state.UserTime() + state.SystemTime(), json.Unmarshal(l.out.Bytes(), result)
}

// kill ends the client at once and gives the CPU that it took.
func (l *load) kill() time.Duration {
	_ = l.cmd.Process.Kill() // it may have ended by itself; then its errors are in l.err
	<-l.ended
	return l.cmd.ProcessState.UserTime() + l.cmd.ProcessState.SystemTime()
}
