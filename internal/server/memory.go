package server

import "runtime/debug"

// shareOfMemory is the size of a cache in bytes: what it has where memory is plenty, or a part of the memory limit of the
// process (GOMEMLIMIT, or that of its cgroup) if that is less. The caches that it sizes take a tenth of the limit together.
func shareOfMemory(most, part int64) int64 { return min(most, debug.SetMemoryLimit(-1)/part) }
