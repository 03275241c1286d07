package store

import (
	"fmt"
	"strings"
	"testing"
)

// TestInterned_strings_are_bounded_in_bytes: long state keys push out older ones.
func TestInterned_strings_are_bounded_in_bytes(t *testing.T) {
	t.Parallel()
	var n interned
	n.init()
	long := strings.Repeat("x", 250)
	for i := range 60_000 {
		n.pairs.Add(KeyNum(i+1), Pair{Type: long, StateKey: fmt.Sprint(long, i)})
	}
	n.pairs.Add(60_000, Pair{Type: long, StateKey: "replaced"})
	bytes := 0
	for _, p := range n.pairs.entries.Values() {
		bytes += internOverhead + len(p.Type) + len(p.StateKey)
	}
	if bytes > internBytes || bytes != n.pairs.bytes || n.pairs.entries.Len() < 10_000 {
		t.Errorf("%d entries of %d bytes, counted as %d; want at most %d", n.pairs.entries.Len(), bytes, n.pairs.bytes, internBytes)
	}
	if n.pairs.Purge(); n.pairs.bytes != 0 {
		t.Errorf("an empty cache counts %d bytes", n.pairs.bytes)
	}
}
