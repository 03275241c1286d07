package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"stoa/test/kit"
)

// usage is what processes have taken of the machine.
type usage struct {
	cpu    time.Duration // so far
	memory int64         // bytes, now
}

// usageOf is that of one process by its resident memory.
func usageOf(pid int) (u usage, err error) {
	if u.cpu, err = kit.CPU(pid, false); err != nil {
		return u, err
	}
	u.memory, err = kit.Resident(pid)
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
		if parent, err := kit.Parent(pid); pid != postmaster && (err != nil || parent != postmaster) {
			continue // also one that has just ended
		}
		cpu, err1 := kit.CPU(pid, pid == postmaster)
		memory, err2 := kit.Memory(pid, "smaps_rollup", "Pss:")
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
	return kit.Ticks(slices.Concat(fields[1:4], fields[6:9]))
}
