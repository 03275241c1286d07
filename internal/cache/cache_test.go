package cache

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func texts(maxBytes int) *Cache[string, string] {
	return New(Options[string, string]{Name: "texts", MaxBytes: maxBytes, Size: func(k, v string) int { return len(k) + len(v) }})
}

func wantKept(t *testing.T, c *Cache[string, string], keys string) {
	t.Helper()
	var kept []string
	for _, k := range []string{"a", "b", "c", "d"} {
		if _, ok := c.entries.Peek(k); ok {
			kept = append(kept, k)
		}
	}
	if got := strings.Join(kept, " "); got != keys {
		t.Errorf("kept %q, want %q", got, keys)
	}
	bytes := 0
	for _, k := range c.entries.Keys() {
		v, _ := c.entries.Peek(k)
		bytes += c.size(k, v)
	}
	if c.bytes != bytes || bytes > c.opt.MaxBytes {
		t.Errorf("counts %d bytes, holds %d of %d", c.bytes, bytes, c.opt.MaxBytes)
	}
}

func TestCacheKeepsWhatWasUsedLast(t *testing.T) {
	t.Parallel()
	c := texts(3 * (entryBytes + 11))
	value := strings.Repeat("x", 10)
	for _, k := range []string{"a", "b", "c"} {
		c.Add(k, value)
	}
	c.Get("a")
	c.Add("d", value)
	wantKept(t, c, "a c d")
	c.Add("c", strings.Repeat("x", 30)) // replaces, and takes the place of another
	wantKept(t, c, "c d")
	c.Add("d", strings.Repeat("x", 3*entryBytes+100))
	wantKept(t, c, "c")
	if v, ok := c.Get("c"); !ok || len(v) != 30 {
		t.Errorf("c is %q", v)
	}
}

func TestCacheTakesNothingFromBeforeADrop(t *testing.T) {
	t.Parallel()
	c := texts(1 << 20)
	c.AddAt(10, "a", "old")
	c.Drop(20, "a")
	c.AddAt(19, "a", "read before the drop")
	c.AddAt(19, "b", "read before the drop of another")
	wantKept(t, c, "")
	c.AddAt(20, "a", "new")
	wantKept(t, c, "a")
	c.Clear(30)
	c.AddAt(29, "a", "from before everything was dropped")
	wantKept(t, c, "")
	c.Add("b", "never changes")
	c.Drop(0, "c")
	c.AddAt(30, "c", "new")
	wantKept(t, c, "b c")
}

func TestCacheMetrics(t *testing.T) {
	t.Parallel()
	c := texts(1 << 20)
	c.Add("a", "12345")
	c.Get("a")
	c.Get("b")
	c.Get("b")
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			line := f.GetName()
			for _, l := range m.GetLabel() {
				line += " " + l.GetValue()
			}
			got = append(got, fmt.Sprint(line, " ", m.GetGauge().GetValue()+m.GetCounter().GetValue()))
		}
	}
	want := "stoa_cache_bytes texts 134\nstoa_cache_entries texts 1\nstoa_cache_lookups_total texts hit 1\nstoa_cache_lookups_total texts miss 2"
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}
