package telemetry

import (
	"context"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

const (
	// gcPercent is how much garbage, in percent of the memory in use, there may be before the runtime collects it. At 100, which
	// is what the runtime does if it is told nothing, a server with 50 MiB in use and 5,000 messages a second spends a twelfth of
	// its time on collections.
	gcPercent = 200
	// limitPercent is how much of what the control group allows the runtime tries to stay below: the rest is for what it does not
	// count, as the page cache of SQLite.
	limitPercent = 90
	// returnEvery is how often unused memory is looked for.
	returnEvery = 5 * time.Second
)

// TuneMemory tells the runtime how much memory the process may take: how often it collects garbage, and, if a control group
// limits the process, how much there is. GOGC and GOMEMLIMIT decide instead where they are set. root is the root of the file
// system. It gives the limit in bytes, 0 if there is none or the environment has set it.
func TuneMemory(root fs.FS) (limit int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return 0
	}
	limit = cgroupMemory(root) / 100 * limitPercent
	if limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	return limit
}

// unlimited is from where on a limit of version 1 means that there is none.
const unlimited = 1 << 60

// cgroupMemory is the memory that the control groups of this process allow it, in bytes; 0 if they don't limit it, or if there are
// none. A group is limited by those around it too. In a container the path of the group may not be visible, and what is at the
// root of the mount then is the group itself.
func cgroupMemory(root fs.FS) (limit int64) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0 // another operating system
	}
	for line := range strings.Lines(string(groups)) {
		// number:controllers:path; version 2 has the number 0 and no controllers
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		mount, file := "sys/fs/cgroup", "memory.max"
		if controllers != "" {
			ok = ok && strings.Contains(","+controllers+",", ",memory,")
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		if !ok {
			continue
		}
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			text, err := fs.ReadFile(root, path.Join(mount, group, file))
			n, perr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // fails for "max"
			if err == nil && perr == nil && n > 0 && n < unlimited && (limit == 0 || n < limit) {
				limit = n
			}
			if group == "/" {
				break
			}
		}
	}
	return limit
}

// ReturnMemory gives unused memory back to the operating system when the server is quiet, until ctx ends. When everybody connects
// at once, after a restart say, the first answers take a multiple of what is needed while all wait afterwards, and the runtime
// keeps as much as gcPercent lets it take again: 10,000 waiting clients had 41 KiB each instead of 19.
func ReturnMemory(ctx context.Context) error {
	t := time.NewTicker(returnEvery)
	defer t.Stop()
	for last := readMemory(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := readMemory()
		if now.isWorthReturning(last) {
			debug.FreeOSMemory()
		}
		last = now
	}
}

// memory is what the runtime says of memory, in bytes.
type memory struct {
	allocated uint64 // in all since the start
	live      uint64 // found in use by the last collection
	unused    uint64 // garbage or free, and not given back
}

func readMemory() memory {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	m := memory{allocated: s[0].Value.Uint64(), live: s[1].Value.Uint64(), unused: s[3].Value.Uint64()}
	if objects := s[2].Value.Uint64(); objects > m.live {
		m.unused += objects - m.live // what was allocated since the last collection may be garbage
	}
	return m
}

// isWorthReturning says whether there is much to give back, an eighth of what is in use, that will not be taken again soon: twice
// what was allocated since the last look. A server that is busy collects more often than that by itself.
func (m memory) isWorthReturning(last memory) bool {
	return m.unused > m.live/8 && m.unused > 2*(m.allocated-last.allocated)
}
