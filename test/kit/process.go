// Package kit is what the programs and tests under test/ share: processes with
// their logs, servers, HAProxy before them, PostgreSQL that can be killed, a small
// client, builds with changed lines, and what a process takes of the machine.
//
// It owns the processes that it starts until they have ended; all of them end with
// this one. It never judges: what is right is for the programs to say. It depends on
// nothing but the standard library, so that every module here can use it.
package kit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// StartWithin bounds the start of a process; the machine may be busy.
	StartWithin = 30 * time.Second
	// StopWithin is how long Stop waits before it kills.
	StopWithin = 15 * time.Second
	// askEvery is how far apart the questions are whether a process is ready.
	askEvery = 5 * time.Millisecond
)

// Process is a running program in a process group of its own, with its log in a file.
type Process struct {
	Name    string
	Cmd     *exec.Cmd
	LogFile string
	gone    chan struct{} // closed when it has ended
	err     error         // how, after gone
}

// Launch starts a command; its output is appended to dir/name.log, its standard output
// only if the command has none.
func Launch(name, dir string, cmd *exec.Cmd) (*Process, error) {
	p := &Process{Name: name, Cmd: cmd, LogFile: filepath.Join(dir, name+".log"), gone: make(chan struct{})}
	log, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Stderr = log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.gone)
	}()
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Gone is closed when the process has ended.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// Err waits until the process has ended and says how: nil for exit code 0.
func (p *Process) Err() error {
	<-p.gone
	return p.err
}

// Ended is the error of a process that should not have ended, with the end of its log.
func (p *Process) Ended() error {
	return fmt.Errorf("%s ended by itself (%v); its log ends:\n%s", p.Name, p.Err(), p.Log())
}

// Log is the end of what the process has printed.
func (p *Process) Log() string {
	log, _ := os.ReadFile(p.LogFile) // without it there is less to say
	return string(log[max(0, len(log)-4000):])
}

// Await calls ready until it returns nil. It is an error if the process ends or StartWithin passes before.
func (p *Process) Await(ready func() error) error {
	deadline := time.Now().Add(StartWithin)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.gone:
			return p.Ended()
		case <-time.After(askEvery): // nothing announces an open port
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready within %v: %w; its log ends:\n%s", p.Name, StartWithin, err, p.Log())
		}
	}
}

// Signal sends a signal to the process and everything that it started.
func (p *Process) Signal(s syscall.Signal) {
	_ = syscall.Kill(-p.PID(), s) // it may have ended by itself
}

// Kill ends the process and everything that it started, and waits. A nil process is none.
func (p *Process) Kill() {
	if p == nil {
		return
	}
	p.Signal(syscall.SIGKILL)
	<-p.gone
}

// Stop ends the process as an operator does, and kills it if it takes longer than StopWithin. A nil process is none.
func (p *Process) Stop() {
	if p != nil {
		_, _ = p.Terminate(StopWithin) // a process that must go is killed
		p.Kill()
	}
}

// Terminate tells the process to stop and gives how long that took. It is an error if it takes longer than within, or
// does not exit with 0.
func (p *Process) Terminate(within time.Duration) (time.Duration, error) {
	began := time.Now()
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	select {
	case <-p.gone:
	case <-time.After(within):
		return 0, fmt.Errorf("%s did not end within %v", p.Name, within)
	}
	if p.err != nil {
		return 0, fmt.Errorf("%s ended: %w", p.Name, p.err)
	}
	return time.Since(began), nil
}

// FreeAddress gives an address on loopback that nobody listens on.
func FreeAddress() (string, error) {
	all, err := FreeAddresses(1)
	if err != nil {
		return "", err
	}
	return all[0], nil
}

// FreeAddresses gives n different ones.
func FreeAddresses(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // once all are known, so that none is given twice
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// Versions is a path that every server answers when it serves.
const Versions = "/_matrix/client/versions"

// Answers asks once for a path at an address (host:port, or unix: and a path) and wants a 200.
func Answers(address, path string) error {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: Dialer(address), DisableKeepAlives: true}}
	res, err := c.Get("http://stoa" + path)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s answers %d", address, path, res.StatusCode)
	}
	return nil
}

// Dialer connects to an address (host:port, or unix: and a path), whatever is asked for.
func Dialer(address string) func(ctx context.Context, _, _ string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
}
