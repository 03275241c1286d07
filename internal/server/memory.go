package server

import "runtime/debug"

// shareOfMemory returns the bytes for a cache or for work in progress: most, or a part of the process's memory limit
// (GOMEMLIMIT, or that of its cgroup) if that is less.
func shareOfMemory(most, part int64) int64 { return min(most, debug.SetMemoryLimit(-1)/part) }
