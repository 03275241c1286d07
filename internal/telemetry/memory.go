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
	// unusedBytes, and half of what is in use, may lie unused: less is not worth a collection. The runtime by itself collects
	// when as much lies unused as is in use, so that a collection for this hardly comes on top of those.
	unusedBytes = 16 << 20
	// roomBytes is how much a busy server allocates at least from one collection to the next. The runtime by itself would
	// collect when as much lies unused as is in use: with 50 MiB in use and 5,000 messages a second, a twelfth of the time of a
	// server with one core went there. More is what is in use by itself where there is much of it.
	roomBytes = 128 << 20
	// usualPercent is what the runtime does if it is told nothing, and mostPercent bounds what it is told when next to nothing
	// is in use.
	usualPercent, mostPercent = 100, 6400
)

var collectLessOnce sync.Once

// CollectLess has the runtime collect no more often than each time that roomBytes have been allocated. It does nothing if the
// operator has said how often (GOGC in the environment). What lies about when the server is quiet is given back by ReturnMemory.
func CollectLess() {
	if os.Getenv("GOGC") != "" {
		return
	}
	collectLessOnce.Do(func() {
		c := &collections{percent: usualPercent}
		c.ended()
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
	if 10*max(want-c.percent, c.percent-want) > c.percent { // it stops the server for a moment
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
// three tenths of what it uses from look to look is not quiet, however much GOGC lets lie unused.
func (m memory) worthReturning(recent uint64) bool {
	return m.unused > unusedBytes+m.live/2 && recent < min(m.unused/2, m.live*3/10)
}
