package telemetry

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryEvery is how often unused memory is looked for.
	memoryEvery = 5 * time.Second
	// unusedBytes, and half of what is in use, may lie unused: less is not worth a collection. The runtime by itself collects
	// when as much lies unused as is in use, so that a collection for this hardly comes on top of those.
	unusedBytes = 16 << 20
)

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
