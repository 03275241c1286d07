// Package cache keeps what was read or computed, bounded in bytes: what was used longest ago goes first.
//
// It owns the bound, the order of use, and the metrics. It never reads what it does not have: the caller does, and adds it.
//
// The invariant that matters: nothing stale comes in behind a drop. What was read in a snapshot from before the position of a
// drop is not kept, whichever entry was dropped.
package cache

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/store"
)

const (
	// entryBytes is what an entry costs beside its key and its value: a place in the list and one in the map.
	entryBytes = 128
	// maxEntries is more than any bound in bytes lets in; the library wants a number.
	maxEntries = 1 << 30
)

// Options are what a Cache is made of. All must be set.
type Options[K comparable, V any] struct {
	// Name is the label of the metrics.
	Name string
	// MaxBytes bounds the entries, with all that they cost.
	MaxBytes int
	// Size is what a key and its value hold in memory, in bytes. It must not change as long as they are kept.
	Size func(K, V) int
}

// Cache keeps values by key. Its methods may be called at the same time.
type Cache[K comparable, V any] struct {
	opt Options[K, V]

	mu      sync.Mutex // guards all below; nothing is taken after it
	entries *simplelru.LRU[K, V]
	bytes   int
	dropped store.Position // of the newest drop

	hits, misses                        atomic.Uint64
	descBytes, descEntries, descLookups *prometheus.Desc
}

// New makes an empty Cache.
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
		panic(err) // only a size below 1 fails
	}
	return c
}

func (c *Cache[K, V]) size(k K, v V) int { return entryBytes + c.opt.Size(k, v) }

// Get gives the value of a key.
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

// Add keeps a value that never changes. One that is larger than the bound is not kept.
func (c *Cache[K, V]) Add(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, v)
}

// AddAt keeps a value that was read in a snapshot at a position, if nothing was dropped since.
func (c *Cache[K, V]) AddAt(snapshot store.Position, k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if snapshot >= c.dropped {
		c.add(k, v)
	}
}

func (c *Cache[K, V]) add(k K, v V) {
	c.entries.Remove(k) // the library tells of no eviction if it replaces
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

// Drop forgets a value that has changed at a position; 0 for one of those that Add keeps.
func (c *Cache[K, V]) Drop(at store.Position, k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped = max(c.dropped, at)
	c.entries.Remove(k)
}

// Clear forgets everything: what happened up to a position is not known.
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
