package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startWithin bounds the start of a process; the machine may be busy.
const startWithin = time.Minute

// process is a running program. Its log is a file in the folder of the run. It
// ends with this one.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	gone chan struct{} // closed when it has ended
	err  error         // how, after gone
}

// launch starts a program; what it prints goes to its log, unless cmd says else.
func launch(name, dir string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: cmd, log: filepath.Join(dir, name+".log"), gone: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.gone)
	}()
	return p, nil
}

// await asks an address until it answers with a 200.
func (p *process) await(address string) error {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	deadline := time.Now().Add(startWithin)
	for time.Now().Before(deadline) {
		res, err := client.Get("http://stoa/_matrix/client/versions")
		if err == nil {
			err = res.Body.Close()
			if err == nil && res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.gone:
			return p.ended()
		case <-time.After(20 * time.Millisecond): // nothing announces an open port
		}
	}
	return fmt.Errorf("%s did not answer within %v", p.name, startWithin)
}

// ended says how a process ended that should not have, with the end of its log.
func (p *process) ended() error {
	log, _ := os.ReadFile(p.log) // without it there is less to say
	return fmt.Errorf("%s ended by itself (%v); its log ends:\n%s", p.name, p.err, log[max(0, len(log)-4000):])
}

// stop ends a process as an operator would.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.gone:
	case <-time.After(15 * time.Second):
		_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.gone
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// usage is what processes have taken of the machine.
type usage struct {
	cpu    time.Duration // so far
	memory int64         // bytes, now
}

// usageOf is that of one process by its resident memory.
func usageOf(pid int) (u usage, err error) {
	if u.cpu, err = cpuOf(pid, false); err != nil {
		return u, err
	}
	u.memory, err = memoryOf(pid, "status", "VmRSS:")
	return u, err
}

// usageOfCluster is that of PostgreSQL: what its processes share is counted once.
func usageOfCluster(postmaster int) (u usage, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return u, err
	}
	for _, stat := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err != nil {
			return u, err
		}
		if parent, err := parentOf(pid); pid != postmaster && (err != nil || parent != postmaster) {
			continue // also one that has just ended
		}
		cpu, err1 := cpuOf(pid, pid == postmaster)
		memory, err2 := memoryOf(pid, "smaps_rollup", "Pss:")
		if err1 == nil && err2 == nil {
			u.cpu += cpu
			u.memory += memory
		}
	}
	if u.memory == 0 {
		return u, errors.New("the memory of PostgreSQL can't be read: be root, or who runs it")
	}
	return u, nil
}

// cpuOf is the user and system time that a process has used so far, if wanted with
// that of its children that have ended.
func cpuOf(pid int, children bool) (time.Duration, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return 0, fmt.Errorf("unexpected /proc stat: %q", stat)
	}
	times := fields[11:13] // utime, stime
	if children {
		times = fields[11:15] // and cutime, cstime
	}
	return ticks(times)
}

// machineCPU is the time that all cores together have not been idle so far.
func machineCPU() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("unexpected /proc/stat: %q", line)
	}
	// user nice system idle iowait irq softirq steal
	return ticks(slices.Concat(fields[1:4], fields[6:9]))
}

// ticks adds times of /proc.
func ticks(fields []string) (time.Duration, error) {
	sum := int64(0)
	for _, field := range fields {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * (time.Second / 100), nil
}

// memoryOf reads a line with KiB from a file of /proc.
func memoryOf(pid int, file, prefix string) (int64, error) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), file))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if kb, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(kb, "kB")), 10, 64)
			return n * 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in %s of process %d", prefix, file, pid)
}
