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
	// gcPercent is the amount of garbage at which the runtime collects it, in percent of
	// the memory in use. With the runtime's default of 100, a server with 50 MiB in use
	// and 5,000 messages a second spends a twelfth of its time on garbage collection.
	gcPercent = 200
	// limitPercent is the part of the control group's limit that the runtime tries to
	// stay below. The rest is for memory that the runtime does not count, such as
	// SQLite's page cache.
	limitPercent = 90
	// returnEvery is the interval at which unused memory is measured.
	returnEvery = 5 * time.Second
)

// TuneMemory sets the runtime's garbage collection, and a memory limit if a control group
// limits the process. GOGC and GOMEMLIMIT take precedence if they are set. root is the
// root of the file system. It returns the limit in bytes, 0 if there is none or the
// environment has set it.
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

// unlimited is the value from which a limit of cgroup version 1 means no limit.
const unlimited = 1 << 60

// cgroupMemory returns the memory limit of this process's control groups in bytes; 0 if
// they don't limit it, or if there are none. The limits of the enclosing groups apply
// too. In a container the path of the group may be invisible; then the root of the mount
// is the group itself.
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

// ReturnMemory returns unused memory to the operating system when the server is quiet,
// until ctx ends. When all clients connect at once, after a restart for example, the
// first answers need several times the memory that the waiting clients need afterwards.
// The runtime would keep as much as gcPercent allows: 10,000 waiting clients had 41 KiB
// each instead of 19.
func ReturnMemory(ctx context.Context) error {
	t := time.NewTicker(returnEvery)
	defer t.Stop()
	var u usage
	u.isWorthReturning(readMemory())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if u.isWorthReturning(readMemory()) {
			debug.FreeOSMemory()
		}
	}
}

// usage is how the process has used memory up to the last measurement.
type usage struct {
	last memory
	// wasBusy says that the last collection may have counted the memory of requests in
	// progress as live, and that they have been answered since.
	wasBusy bool
}

// memory are the runtime's memory statistics, in bytes.
type memory struct {
	allocated uint64 // in total since the start
	live      uint64 // in use at the last garbage collection
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
		m.unused += objects - m.live // memory allocated since the last collection may be garbage
	}
	return m
}

// isWorthReturning takes a measurement and reports whether there is much to return that
// will not soon be needed again: an eighth of the memory in use, and twice the memory
// allocated since the last measurement. A busy server allocates more than that and
// collects garbage itself. What its last collection found in use is not in use any more
// once it is quiet, but no other collection would follow for two minutes, so that is worth
// it too.
func (u *usage) isWorthReturning(now memory) bool {
	recent := now.allocated - u.last.allocated
	u.last = now
	if recent > now.live/2 {
		u.wasBusy = true
	}
	worth := now.unused > now.live/8 && now.unused > 2*recent || u.wasBusy && recent < now.live/8
	if worth {
		u.wasBusy = false
	}
	return worth
}
