package telemetry

import "testing"

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
