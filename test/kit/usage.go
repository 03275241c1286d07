package kit

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Of what a process takes of the machine, as /proc tells it.

// CPU is the user and system time that a process has used so far, if wanted with that
// of its children that have ended.
func CPU(pid int, children bool) (time.Duration, error) {
	fields, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	times := fields[11:13] // utime, stime
	if children {
		times = fields[11:15] // and cutime, cstime
	}
	return Ticks(times)
}

// Parent is the parent of a process.
func Parent(pid int) (int, error) {
	fields, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(fields[1])
}

// statOf gives the fields of /proc/PID/stat from the process's state on.
func statOf(pid int) ([]string, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return nil, fmt.Errorf("unexpected /proc stat: %q", stat)
	}
	return fields, nil
}

// Ticks adds times of /proc.
func Ticks(fields []string) (time.Duration, error) {
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

// Resident is the resident memory of a process in bytes.
func Resident(pid int) (int64, error) { return Memory(pid, "status", "VmRSS:") }

// Memory reads a line with KiB from a file of a process in /proc, in bytes.
func Memory(pid int, file, prefix string) (int64, error) {
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
