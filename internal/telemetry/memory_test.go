package telemetry

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

func TestMemoryIsReturnedOnlyWhenItIsMuchAndNobodyWantsItSoon(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, c := range map[string]struct {
		live, unused, recent uint64
		want                 bool
	}{
		"a burst is over":                      {live: 80 * mib, unused: 100 * mib, recent: mib, want: true},
		"little is unused":                     {live: 8 * mib, unused: 16 * mib, recent: 0, want: false},
		"little in relation to what is in use": {live: 400 * mib, unused: 100 * mib, recent: 0, want: false},
		"the server is busy":                   {live: 80 * mib, unused: 100 * mib, recent: 60 * mib, want: false},
		"much may lie unused":                  {live: 140 * mib, unused: 400 * mib, recent: 54 * mib, want: false},
		"clients poll and nothing happens":     {live: 80 * mib, unused: 60 * mib, recent: 22 * mib, want: true},
		"a small server with a few clients":    {live: 10 * mib, unused: 100 * mib, recent: 15 * mib, want: true},
		"a small server is busy":               {live: 10 * mib, unused: 100 * mib, recent: 25 * mib, want: false},
	} {
		if got := (memory{live: c.live, unused: c.unused}).worthReturning(c.recent); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestMemoryIsReadFromTheRuntime(t *testing.T) {
	t.Parallel()
	before := readMemory()
	if before.allocated == 0 {
		t.Fatal("nothing allocated")
	}
	kept = make([]byte, 4<<20)
	if after := readMemory(); after.allocated < before.allocated+4<<20 {
		t.Errorf("%d bytes allocated in all, %d before another 4 MiB", after.allocated, before.allocated)
	}
}

var kept []byte

func TestCollectionsLeaveRoom(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, c := range map[string]struct {
		used uint64
		want int
	}{
		"nothing is known yet":   {0, 3200},
		"a server that began":    {4 * mib, 3200},
		"a small server":         {64 * mib, 200},
		"as much as the room":    {128 * mib, 100},
		"more than that":         {1000 * mib, 100},
		"more than 32 bits hold": {1 << 40, 100},
	} {
		if got := collectPercent(c.used); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestCollectLessFollowsEachCollection(t *testing.T) {
	t.Parallel()
	(&collections{percent: usualPercent}).ended()
	collectUntil(t, func(percent uint64) bool { return percent > usualPercent })
	used := make([]byte, 2*roomBytes) // room enough by itself
	collectUntil(t, func(percent uint64) bool { return percent == usualPercent })
	runtime.KeepAlive(used)
	collectUntil(t, func(percent uint64) bool { return percent > usualPercent })
}

// collectUntil collects until the next collection is to follow after a wanted percentage.
func collectUntil(t *testing.T, wanted func(percent uint64) bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !wanted(gogc()); runtime.GC() {
		if time.Now().After(end) {
			t.Fatalf("a collection is to follow after %d %%", gogc())
		}
	}
}

func gogc() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
