//go:build !linux

package httpkit

import "syscall"

// watcher would notice when clients do something on connections that nobody reads. There is none on this system, so nothing
// is parked.
type watcher struct{}

func newWatcher() (*watcher, error) { return nil, nil }

func (*watcher) add(*bay) uint64 { return 0 }
func (*watcher) remove(*bay)     {}
func (*watcher) forget(*bay)     {}
func (*watcher) all() []*bay     { return nil }
func (*watcher) close()          {}

// Without a watcher there is no bay that could call these.
func readAtOnce(syscall.RawConn, []byte) (int, bool)   { return 0, false }
func writeAtOnce(syscall.RawConn, []byte) (int, error) { return 0, nil }
