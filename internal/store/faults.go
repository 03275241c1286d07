package store

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// Named fault points of the commit queue.
const (
	FaultBuilt          = "built"                      // a change is handed over, by whoever built it: what a point does here comes between look and commit
	FaultBeforeCommit   = "before-commit"              // nothing was written
	FaultAfterCommit    = "after-commit-before-answer" // durable, nobody was told
	FaultOutcomeUnknown = "outcome-unknown"            // the connection is lost around the commit
	FaultHeadMoved      = "head-moved"                 // a change loses as if its head had moved
)

// Faults arms fault points for crash and chaos tests. A nil *Faults has none.
type Faults struct {
	mu    sync.Mutex // guards armed
	armed map[string]func() error
}

// Arm makes a point call f at each hit; an error makes the point fail with it,
// nil lets it pass. A nil f disarms the point.
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

// Hit is called by the commit queue at a fault point.
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
// "before-commit:100,after-commit-before-answer:7": the process exits, as if
// killed, at the n-th hit of the point. It is for builds that are tested; the
// server calls it only when its test build says so.
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
