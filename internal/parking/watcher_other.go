//go:build !linux

package parking

import "syscall"

// watcher would notice when clients do something on parked connections. This system has no epoll, so nothing is parked.
type watcher struct{}

func newWatcher() (*watcher, error) { return nil, nil }

func (*watcher) add(*connection) uint64 { return 0 }
func (*watcher) remove(*connection)     {}
func (*watcher) forget(*connection)     {}
func (*watcher) all() []*connection     { return nil }
func (*watcher) close()                 {}

// Without a watcher there is no connection that could call these.
func readNow(syscall.RawConn, []byte) (int, bool)   { return 0, false }
func writeNow(syscall.RawConn, []byte) (int, error) { return 0, nil }
