// Package cache is an LRU cache of values that were read or computed, bounded in bytes.
//
// It owns the bound, the order of use, and the metrics. It never loads a missing value:
// the caller does so and adds it.
//
// The invariant: a stale value is never added after a drop. A value from a snapshot older
// than the position of the last drop is not added, whichever entry was dropped.
package cache

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/store"
)

const (
	// entryBytes is the memory of an entry beside its key and its value: a list element
	// and a map entry.
	entryBytes = 128
	// maxEntries is beyond any bound in bytes; the library requires a number.
	maxEntries = 1 << 30
)

// Options configure a Cache. All must be set.
type Options[K comparable, V any] struct {
	// Name is the label of the metrics.
	Name string
	// MaxBytes bounds the memory of the entries, including their overhead.
	MaxBytes int
	// Size is the memory of a key and its value in bytes. It must not change while they
	// are in the cache.
	Size func(K, V) int
}

// Cache holds values by key. Its methods may be called concurrently.
type Cache[K comparable, V any] struct {
	opt Options[K, V]

	mu      sync.Mutex // guards all fields below; nothing is locked after it
	entries *simplelru.LRU[K, V]
	bytes   int
	dropped store.Position // of the newest drop

	hits, misses                        atomic.Uint64
	descBytes, descEntries, descLookups *prometheus.Desc
}

// New returns an empty Cache.
func New[K comparable, V any](opt Options[K, V]) *Cache[K, V] {
	label := prometheus.Labels{"cache": opt.Name}
	c := &Cache[K, V]{
		opt:         opt,
		descBytes:   prometheus.NewDesc("stoa_cache_bytes", "Memory of each cache.", nil, label),
		descEntries: prometheus.NewDesc("stoa_cache_entries", "Entries of each cache.", nil, label),
		descLookups: prometheus.NewDesc("stoa_cache_lookups_total", "Lookups in each cache, by result (hit, miss).", []string{"result"}, label),
	}
	var err error
	c.entries, err = simplelru.NewLRU(maxEntries, func(k K, v V) { c.bytes -= c.size(k, v) })
	if err != nil {
		panic(err) // fails only for a size below 1
	}
	return c
}

func (c *Cache[K, V]) size(k K, v V) int { return entryBytes + c.opt.Size(k, v) }

// Get returns the value of a key.
func (c *Cache[K, V]) Get(k K) (V, bool) {
	c.mu.Lock()
	v, ok := c.entries.Get(k)
	c.mu.Unlock()
	if ok {
		c.hits.Add(1)
	} else {
		c.misses.Add(1)
	}
	return v, ok
}

// Add adds a value that never changes. A value above the bound is not added.
func (c *Cache[K, V]) Add(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, v)
}

// AddAt adds a value that was read in a snapshot at a position, unless an entry was
// dropped since.
func (c *Cache[K, V]) AddAt(snapshot store.Position, k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if snapshot >= c.dropped {
		c.add(k, v)
	}
}

func (c *Cache[K, V]) add(k K, v V) {
	c.entries.Remove(k) // the library reports no eviction when it replaces an entry
	size := c.size(k, v)
	if size > c.opt.MaxBytes {
		return
	}
	c.entries.Add(k, v)
	c.bytes += size
	for c.bytes > c.opt.MaxBytes {
		c.entries.RemoveOldest()
	}
}

// Drop removes a value that has changed at a position; 0 for a value from Add.
func (c *Cache[K, V]) Drop(at store.Position, k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped = max(c.dropped, at)
	c.entries.Remove(k)
}

// Clear removes all values, because changes up to a position may have been missed.
func (c *Cache[K, V]) Clear(at store.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped = max(c.dropped, at)
	c.entries.Purge()
}

// Describe implements prometheus.Collector.
func (c *Cache[K, V]) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.descBytes
	ch <- c.descEntries
	ch <- c.descLookups
}

// Collect implements prometheus.Collector.
func (c *Cache[K, V]) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	bytes, entries := c.bytes, c.entries.Len()
	c.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(c.descBytes, prometheus.GaugeValue, float64(bytes))
	ch <- prometheus.MustNewConstMetric(c.descEntries, prometheus.GaugeValue, float64(entries))
	ch <- prometheus.MustNewConstMetric(c.descLookups, prometheus.CounterValue, float64(c.hits.Load()), "hit")
	ch <- prometheus.MustNewConstMetric(c.descLookups, prometheus.CounterValue, float64(c.misses.Load()), "miss")
}
