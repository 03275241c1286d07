package clientsync

import (
	"fmt"
	"runtime"
	"testing"

	"stoa/internal/store"
	"stoa/internal/who"
)

// However large the filters of users are, the caches stay within their bounds. The test is not parallel, since it measures the heap.
func TestFilterCache_is_bounded_in_bytes(t *testing.T) {
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	c := newFilterCache()
	before := heap()
	for i := range 6_000 {
		types := fmt.Sprintf(`"t%d"`, i)
		for j := range 330 {
			types += fmt.Sprintf(`,"%d"`, 100+j)
		}
		text := []byte(`{"room":{"timeline":{"types":[` + types + `]}}}`)
		v := who.Device{User: who.User{UserNum: store.UserNum(i + 1)}}
		if _, err := c.get(v, "1", func() ([]byte, error) { return text, nil }); err != nil || len(text) > filterText {
			t.Fatal(len(text), err)
		}
	}
	if used, most := heap()-before, parsedFilterBytes+storedFilterBytes; used > most {
		t.Errorf("6,000 filters use %d bytes, more than %d", used, most)
	}
	read := false
	v := who.Device{User: who.User{UserNum: 6_000}}
	if _, err := c.get(v, "1", func() ([]byte, error) { read = true; return []byte("{}"), nil }); err != nil || read {
		t.Errorf("the newest filter is gone: %v", err)
	}
	runtime.KeepAlive(c)
}
