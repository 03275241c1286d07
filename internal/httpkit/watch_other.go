//go:build !linux

package httpkit

// watcher would notice when clients do something on connections that nobody reads. There is none on this system, so nothing
// is parked.
type watcher struct{}

func newWatcher() (*watcher, error) { return nil, nil }

func (*watcher) add(*Parked) uint64          { return 0 }
func (*watcher) read(*Parked) ([]byte, bool) { return nil, false }
func (*watcher) remove(*Parked)              {}
func (*watcher) close()                      {}
