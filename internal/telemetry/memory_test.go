package telemetry

import (
	"slices"
	"testing"
	"testing/fstest"
)

func TestMemoryOfTheControlGroup(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"another operating system": {nil, 0},
		"no limit": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/stoa.service\n", "sys/fs/cgroup/system.slice/stoa.service/memory.max": "max\n",
		}, 0},
		"a unit of systemd": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/stoa.service\n", "sys/fs/cgroup/system.slice/stoa.service/memory.max": "536870912\n",
		}, 536870912},
		"the group around it has less": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/stoa.service\n",
			"sys/fs/cgroup/system.slice/stoa.service/memory.max":       "536870912\n",
			"sys/fs/cgroup/system.slice/memory.max":                    "268435456\n",
			"sys/fs/cgroup/system.slice/another.service/memory.max":    "1024\n",
			"sys/fs/cgroup/system.slice/stoa.service/below/memory.max": "1024\n",
		}, 268435456},
		"a container of version 2": {map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n",
		}, 1073741824},
		"a container of version 1, whose path is that of the machine": {map[string]string{
			"proc/self/cgroup":                           "12:cpuset:/docker/0123\n5:cpu,memory:/docker/0123\n0::/system.slice/docker\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "805306368\n",
		}, 805306368},
		"version 1 without a limit": {map[string]string{
			"proc/self/cgroup":                           "5:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 0},
		"another controller": {map[string]string{
			"proc/self/cgroup":                           "5:memoryless:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1024\n",
		}, 0},
		"something else": {map[string]string{
			"proc/self/cgroup": "\n0\n0:\n0::../../up\n", "sys/fs/cgroup/memory.max": "-5\n", "sys/fs/cgroup/up/memory.max": "much\n",
		}, 0},
	} {
		root := fstest.MapFS{}
		for name, text := range c.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := cgroupMemory(root); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestMemoryIsReturnedOnlyWhenItIsMuchAndNobodyWantsItSoon(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, c := range map[string]struct {
		live, unused, recent uint64
		want                 bool
	}{
		"a burst is over":                  {live: 80 * mib, unused: 100 * mib, recent: mib, want: true},
		"little in relation to the rest":   {live: 800 * mib, unused: 100 * mib, recent: mib, want: false},
		"the server is busy":               {live: 80 * mib, unused: 100 * mib, recent: 60 * mib, want: false},
		"clients poll and nothing happens": {live: 80 * mib, unused: 60 * mib, recent: 22 * mib, want: true},
		"it was returned a moment ago":     {live: 80 * mib, unused: 20 * mib, recent: 20 * mib, want: false},
	} {
		u := usage{last: memory{allocated: 1000 * mib}}
		if got := u.isWorthReturning(memory{allocated: u.last.allocated + c.recent, live: c.live, unused: c.unused}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The last collection of a busy time finds much in use that is garbage a moment later, and
// a quiet server would keep it until the next one.
func TestMemoryIsCollectedOnceAfterABusyTime(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	u := usage{}
	var got []bool
	allocated := uint64(0)
	for _, recent := range []uint64{10 * mib, 400 * mib, 300 * mib, 2 * mib, 2 * mib} {
		allocated += recent
		got = append(got, u.isWorthReturning(memory{allocated: allocated, live: 118 * mib, unused: recent / 4}))
	}
	if want := []bool{false, false, false, true, false}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
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
