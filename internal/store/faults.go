package store

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// Named fault points of the commit queue.
const (
	FaultBuilt          = "built"                      // a change is submitted; the point's function runs between its reads and its commit
	FaultBeforeCommit   = "before-commit"              // nothing was written
	FaultAfterCommit    = "after-commit-before-answer" // durable, but not acknowledged
	FaultOutcomeUnknown = "outcome-unknown"            // the connection is lost around the commit
	FaultHeadMoved      = "head-moved"                 // a change loses as if its head had moved
)

// Faults arms fault points for crash and chaos tests. A nil *Faults has none.
type Faults struct {
	mu    sync.Mutex // guards armed
	armed map[string]func() error
}

// Arm makes a point call f at each hit. If f returns an error, the point fails with it. A
// nil f disarms the point.
func (f *Faults) Arm(name string, point func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed == nil {
		f.armed = map[string]func() error{}
	}
	if point == nil {
		delete(f.armed, name)
		return
	}
	f.armed[name] = point
}

// Hit runs a fault point. The commit queue calls it.
func (f *Faults) Hit(name string) error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	point := f.armed[name]
	f.mu.Unlock()
	if point == nil {
		return nil
	}
	if err := point(); err != nil {
		return fmt.Errorf("fault %s: %w", name, err)
	}
	return nil
}

// FaultsFromEnv arms the points of a variable such as
// "before-commit:100,after-commit-before-answer:7": at the n-th hit the process exits, as
// if killed. Only test builds of the server call it.
func FaultsFromEnv(value string) (*Faults, error) {
	if value == "" {
		return nil, nil
	}
	f := &Faults{}
	for item := range strings.SplitSeq(value, ",") {
		var n int
		name, count, _ := strings.Cut(item, ":")
		if _, err := fmt.Sscanf(count, "%d", &n); err != nil || n < 1 {
			return nil, fmt.Errorf("fault %q: want name:count", item)
		}
		f.Arm(name, func() error {
			if n--; n == 0 {
				os.Exit(137)
			}
			return nil
		})
	}
	return f, nil
}
