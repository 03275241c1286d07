package telemetry

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryEvery is how often unused memory is looked for.
	memoryEvery = 5 * time.Second
	// unusedBytes, and half of what is in use, may lie unused: less is not worth a collection.
	unusedBytes = 16 << 20
)

const (
	// usualPercent is how much may be allocated between collections, in percent of what is in use; mostPercent as long as
	// that is not more than spareBytes. A collection costs by what is in use and not by what it finds unused, so with little
	// in use a little more memory saves most of them.
	usualPercent, mostPercent = 100, 400
	spareBytes                = 1 << 30
)

// ManageMemory lets more than usual lie unused while the server is busy, and gives it back to the operating system whenever
// the server is quiet, until ctx ends. When everybody connects at once, after a restart say, the first answers take a
// multiple of what is needed while all wait afterwards, and the runtime would keep it until as much has been allocated
// again, which may take hours. With GOGC set nothing but that decides how much may lie unused.
func ManageMemory(ctx context.Context) error {
	t := time.NewTicker(memoryEvery)
	defer t.Stop()
	_, fixed := os.LookupEnv("GOGC")
	percent := usualPercent
	last := readMemory()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := readMemory()
		if p := now.percent(now.allocated - last.allocated); p != percent && !fixed {
			percent = p
			debug.SetGCPercent(p)
		}
		if now.worthReturning(now.allocated - last.allocated) {
			debug.FreeOSMemory()
			now = readMemory()
		}
		last = now
	}
}

// percent is how much may be allocated between collections: more than usual only if at least as much as is in use was allocated
// since the last look, so that a collection would come every few seconds. It goes by steps of 50, since each change stops the
// world for a moment.
func (m memory) percent(recent uint64) int {
	if m.live == 0 || recent < m.live {
		return usualPercent
	}
	return max(usualPercent, min(mostPercent, int(spareBytes*100/m.live)/50*50))
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
// allocated since the last look. Who allocates half of what is in use in that time is busy, however much lies unused.
func (m memory) worthReturning(recent uint64) bool {
	return m.unused > unusedBytes+m.live/2 && recent < min(m.unused, m.live)/2
}
