package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// bound holds a process to an amount of memory or CPU: a cgroup, of either version, or
// something less exact where none can be made.
type bound struct {
	dir  string // of the cgroup; "" = none
	how  string
	done chan struct{} // closed to end the duty cycle
}

func (b *bound) String() string { return b.how }

// remove gives up what was made. The process has ended, or is no longer bound.
func (b *bound) remove() {
	if b.done != nil {
		close(b.done)
		b.done = nil
	}
	for range 50 {
		if b.dir == "" || os.Remove(b.dir) == nil {
			return
		}
		time.Sleep(20 * time.Millisecond) // the kernel takes the dead process out by and by
	}
}

// boundMemory makes a bound on memory for a process that is yet to be started, with the
// command to start it under: one that takes more is killed. Where no cgroup can be made,
// the process is only told of the limit, and whoever starts it must look at its memory.
func boundMemory(name string, bytes int64) (b *bound, wrap []string) {
	n := strconv.FormatInt(bytes, 10)
	b = group(name, "memory", map[string]string{"memory.limit_in_bytes": n}, map[string]string{"memory.max": n, "memory.swap.max": "0"})
	if b == nil {
		b = &bound{how: "no cgroup can be made here: only the resident memory is looked at"}
		return b, []string{"env", "GOMEMLIMIT=" + strconv.FormatInt(bytes/10*9, 10)}
	}
	return b, []string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(b.dir, "cgroup.procs")}
}

// boundCPU bounds the CPU of a process, in cores.
func boundCPU(pid int, cores float64) *bound {
	const period = 100_000 // µs
	quota := strconv.Itoa(int(cores * period))
	b := group("cpu", "cpu", map[string]string{"cpu.cfs_period_us": strconv.Itoa(period), "cpu.cfs_quota_us": quota},
		map[string]string{"cpu.max": quota + " " + strconv.Itoa(period)})
	if b != nil {
		if os.WriteFile(filepath.Join(b.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0) == nil {
			return b
		}
		b.remove()
	}
	b = &bound{how: "no cgroup can be made here: stopped half of the time", done: make(chan struct{})}
	go dutyCycle(pid, cores, b.done)
	return b
}

// group makes a cgroup with some settings, of version 1 or 2; nil if that is not possible.
func group(name, controller string, v1, v2 map[string]string) *bound {
	const root = "/sys/fs/cgroup"
	name = fmt.Sprintf("stoa-siege-%d-%s", os.Getpid(), name)
	for _, try := range []struct {
		dir, how string
		files    map[string]string
	}{
		{filepath.Join(root, name), "cgroup v2", v2},
		{filepath.Join(root, controller, name), "cgroup v1", v1},
	} {
		if try.how == "cgroup v2" {
			if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
				continue
			}
			_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+controller), 0) // if not, the files are missing
		}
		if os.Mkdir(try.dir, 0o755) != nil {
			continue
		}
		b := &bound{dir: try.dir, how: try.how}
		var errs []error
		for file, value := range try.files {
			if file != "memory.swap.max" || exists(filepath.Join(try.dir, file)) {
				errs = append(errs, os.WriteFile(filepath.Join(try.dir, file), []byte(value), 0))
			}
		}
		if errors.Join(errs...) == nil {
			return b
		}
		b.remove()
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// dutyCycle lets a process run for a part of each 20 ms.
func dutyCycle(pid int, part float64, done chan struct{}) {
	const period = 20 * time.Millisecond
	on := time.Duration(part * float64(period))
	for {
		for _, step := range []struct {
			signal syscall.Signal
			after  time.Duration
		}{{syscall.SIGSTOP, on}, {syscall.SIGCONT, period - on}} {
			select {
			case <-done:
				_ = syscall.Kill(pid, syscall.SIGCONT) // it may have ended
				return
			case <-time.After(step.after):
			}
			if syscall.Kill(pid, step.signal) != nil {
				return
			}
		}
	}
}
