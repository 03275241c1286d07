//go:build !linux

package store

import "syscall"

// boundUnacknowledged does nothing: only Linux has such a bound. Elsewhere the timeouts
// of requests and groups apply.
func boundUnacknowledged(_, _ string, _ syscall.RawConn) error { return nil }
