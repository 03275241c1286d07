package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"stoa/test/kit"
)

// process is a server under load: the server itself or a floor.
type process struct {
	*kit.Process
	addr  string
	admin string // address of the admin listener; "" = it has none
}

// startFloor runs this binary again as one of the floors (floor.go).
func startFloor(kind, dir string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr, err := kit.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := kit.Launch("floor-"+kind, dir, exec.Command(self, "floor", kind, addr, dir))
	if err != nil {
		return nil, err
	}
	return started(&process{Process: p, addr: addr}, "/ready")
}

// startServer runs the binary under test on a data directory, with settings of
// its own besides those that all have.
func startServer(binary, dir, database string, settings ...string) (*process, error) {
	s, err := kit.NewServer("server", binary, dir, "STOA_SERVER_NAME=bench", "STOA_DATABASE="+database, "STOA_REGISTRATION=closed", "STOA_LOG_LEVEL=warn")
	if err != nil {
		return nil, err
	}
	s.Settings = append(s.Settings, settings...)
	if err := s.Launch(); err != nil {
		return nil, err
	}
	return started(&process{Process: s.Process, addr: s.Listen}, kit.Versions)
}

// started waits until a process answers a path.
func started(p *process, path string) (*process, error) {
	if err := p.Await(func() error { return kit.Answers(p.addr, path) }); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// cpu is the user and system time that the process has used so far.
func (p *process) cpu() (time.Duration, error) { return kit.CPU(p.PID(), false) }

// resident is the resident memory in bytes.
func (p *process) resident() (int64, error) { return kit.Resident(p.PID()) }

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
