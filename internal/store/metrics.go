package store

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// groupBounds are the upper bounds of the histogram of groups, in seconds.
var groupBounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5}

// storeMetrics are counters, each changed by one atomic addition.
type storeMetrics struct {
	changes, conflicts, retried, unknown, lostBatches, barriers atomic.Uint64

	buckets     [len(groupBounds) + 1]atomic.Uint64
	nanoseconds atomic.Int64
	snapshots   atomic.Int64 // open now
}

func (m *storeMetrics) group(took time.Duration) {
	i := 0
	for i < len(groupBounds) && took.Seconds() > groupBounds[i] {
		i++
	}
	m.buckets[i].Add(1)
	m.nanoseconds.Add(int64(took))
}

var (
	descGroups    = prometheus.NewDesc("stoa_store_group_seconds", "Time for a group of changes in the database.", nil, nil)
	descChanges   = prometheus.NewDesc("stoa_store_changes_total", "Changes committed.", nil, nil)
	descConflicts = prometheus.NewDesc("stoa_store_conflicts_total", "Changes that lost their head to another writer.", nil, nil)
	descRetried   = prometheus.NewDesc("stoa_store_groups_retried_total", "Groups written again, without a failing change or one change at a time.", nil, nil)
	descUnknown   = prometheus.NewDesc("stoa_store_outcomes_unknown_total", "Groups whose outcome (durable or not) is unknown.", nil, nil)
	descLost      = prometheus.NewDesc("stoa_store_tail_batches_lost_total", "Batches that a follower was too slow for; it reads them from the store.", nil, nil)
	descQueue     = prometheus.NewDesc("stoa_store_queue_changes", "Changes waiting for the commit queue.", nil, nil)
	descSnapshots = prometheus.NewDesc("stoa_store_snapshots", "Open snapshots.", nil, nil)
	descBarriers  = prometheus.NewDesc("stoa_store_barriers_total", "Queries of the head of the stream for client requests (read barriers).", nil, nil)
	descHead      = prometheus.NewDesc("stoa_store_head_position", "Newest known position.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (s *Store) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descGroups, descChanges, descConflicts, descRetried, descUnknown, descLost,
		descBarriers, descQueue, descSnapshots, descHead} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (s *Store) Collect(ch chan<- prometheus.Metric) {
	m := &s.metrics
	buckets, n := map[float64]uint64{}, uint64(0)
	for i := range m.buckets {
		n += m.buckets[i].Load()
		if i < len(groupBounds) {
			buckets[groupBounds[i]] = n
		}
	}
	ch <- prometheus.MustNewConstHistogram(descGroups, n, time.Duration(m.nanoseconds.Load()).Seconds(), buckets)
	for desc, counter := range map[*prometheus.Desc]*atomic.Uint64{descChanges: &m.changes, descConflicts: &m.conflicts,
		descRetried: &m.retried, descUnknown: &m.unknown, descLost: &m.lostBatches, descBarriers: &m.barriers} {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(counter.Load()))
	}
	ch <- prometheus.MustNewConstMetric(descQueue, prometheus.GaugeValue, float64(s.commits.waiting()))
	ch <- prometheus.MustNewConstMetric(descSnapshots, prometheus.GaugeValue, float64(m.snapshots.Load()))
	ch <- prometheus.MustNewConstMetric(descHead, prometheus.GaugeValue, float64(s.Head()))
}
