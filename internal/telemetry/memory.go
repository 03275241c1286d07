package telemetry

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// memoryEvery is how often unused memory is looked for.
	memoryEvery = 5 * time.Second
	// unusedBytes, and half of what is in use, may lie unused: less is not worth a collection.
	unusedBytes = 16 << 20
	// quietBytes is in use at least when it is asked whether three tenths of that are allocated from look to look: a small server
	// with a few clients is quiet.
	quietBytes = 64 << 20
	// roomBytes is about how much a busy server allocates at least from one collection to the next. The runtime by itself would
	// collect when as much lies unused as is in use: with 50 MiB in use and 5,000 messages a second, a twelfth of the time of a
	// server with one core went there. More is what is in use by itself where there is much of it.
	roomBytes = 128 << 20
	// usualPercent is what the runtime does if it is told nothing. mostPercent bounds what it is told: the least that it collects
	// at is 4 MiB times that.
	usualPercent, mostPercent = 100, 3200
)

var collectLessOnce sync.Once

// CollectLess has the runtime collect each time that about roomBytes have been allocated, if it would more often. It does nothing
// if the operator has said how often (GOGC in the environment). What lies about when the server is quiet is given back by
// ReturnMemory.
func CollectLess() {
	if os.Getenv("GOGC") != "" {
		return
	}
	collectLessOnce.Do(func() {
		runtime.GC() // what is in use is known from now on
		(&collections{percent: usualPercent}).ended()
	})
}

// collections is found unused by each collection, and used again by what is then called.
type collections struct {
	percent int
	_       *int // an object without pointers might share its place with others, and not be found
}

// ended is called after each collection, when what is in use is known anew.
func (c *collections) ended() {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(s)
	want := collectPercent(s[0].Value.Uint64() + s[1].Value.Uint64() + s[2].Value.Uint64())
	if 10*max(want-c.percent, c.percent-want) > c.percent {
		c.percent = want
		debug.SetGCPercent(want)
	}
	runtime.SetFinalizer(c, (*collections).ended)
}

// collectPercent is how much may be allocated until the next collection, in percent of used: what was found in use on the heap
// by the last one, and the stacks and globals, as the runtime counts them.
func collectPercent(used uint64) int {
	return int(min(max(roomBytes*100/max(used, 1), usualPercent), mostPercent))
}

// ReturnMemory gives memory that nobody uses back to the operating system whenever the server is quiet, until ctx ends. When
// everybody connects at once, after a restart say, the first answers take a multiple of what is needed while all wait
// afterwards, and the runtime would keep it until as much has been allocated again, which may take hours.
func ReturnMemory(ctx context.Context) error {
	t := time.NewTicker(memoryEvery)
	defer t.Stop()
	last := readMemory()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := readMemory()
		if now.worthReturning(now.allocated - last.allocated) {
			debug.FreeOSMemory()
			now = readMemory()
		}
		last = now
	}
}

// memory is how much memory there is, in bytes.
type memory struct {
	allocated uint64 // in all since the start
	live      uint64 // found in use by the last collection
	unused    uint64 // allocated since, or free, and not given back
}

func readMemory() memory {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	m := memory{allocated: s[0].Value.Uint64(), live: s[1].Value.Uint64(), unused: s[3].Value.Uint64()}
	if objects := s[2].Value.Uint64(); objects > m.live {
		m.unused += objects - m.live
	}
	return m
}

// worthReturning says whether there is much to give back, and it would not be asked for again soon: recent is what was
// allocated since the last look. To give back is a collection, and taking again costs as much as that: a server that allocates
// three tenths of what it uses from look to look is not quiet, however much may lie unused.
func (m memory) worthReturning(recent uint64) bool {
	return m.unused > unusedBytes+m.live/2 && recent < min(m.unused/2, max(m.live, quietBytes)*3/10)
}
