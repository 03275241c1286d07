package clientsync

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	// largeAnswer is from how many bytes on an answer is large.
	largeAnswer = 16 << 10
	// burstBytes is how much large answers have to amount to for their memory to be worth giving back.
	burstBytes = 32 << 20
	// quietTime is how long there have to be no large answers.
	quietTime = time.Second
)

// burst gives the memory of many large answers back to the operating system once they are over. When everybody connects at
// once, after a restart, the first answers take a multiple of the memory that is needed while they wait afterwards, and the
// runtime would keep it until something else wants it.
type burst struct {
	bytes atomic.Int64 // of large answers since the last release
	last  atomic.Int64 // when the last one was, in ns
	busy  atomic.Bool
}

// note counts an answer.
func (b *burst) note(size int) {
	if size >= largeAnswer {
		b.bytes.Add(int64(size))
		b.last.Store(time.Now().UnixNano())
	}
}

// release gives memory back if a burst is over. It does so beside the caller.
func (b *burst) release() {
	if b.bytes.Load() < burstBytes || time.Since(time.Unix(0, b.last.Load())) < quietTime || !b.busy.CompareAndSwap(false, true) {
		return
	}
	b.bytes.Store(0)
	go func() {
		defer b.busy.Store(false)
		runtime.GC() // buffers in pools survive one collection
		debug.FreeOSMemory()
	}()
}
