package room

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/store/roomdb"
)

// metrics are the counters of this package, one atomic addition each.
type metrics struct {
	placed, rebuilt, rejected, softFailed, rulesLimited atomic.Uint64
}

var (
	descResident     = prometheus.NewDesc("stoa_room_resident_rooms", "Rooms in memory.", nil, nil)
	descBytes        = prometheus.NewDesc("stoa_room_resident_bytes", "Memory of the state of the rooms in memory.", nil, nil)
	descPlaced       = prometheus.NewDesc("stoa_room_events_total", "Events added to timelines.", nil, nil)
	descRebuilt      = prometheus.NewDesc("stoa_room_rebuilt_changes_total", "Changes that lost against another writer and were rebuilt.", nil, nil)
	descRulesLimited = prometheus.NewDesc("stoa_room_push_rules_limited_total", "Events for which the members' push rules would have taken too much work, so that some were not evaluated.", nil, nil)
	descReceived     = prometheus.NewDesc("stoa_room_refused_events_total", "Events of other servers that were rejected or soft-failed.", []string{"standing"}, nil)
)

// Describe implements prometheus.Collector.
func (rs *Rooms) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descResident, descBytes, descPlaced, descRebuilt, descRulesLimited, descReceived} {
		ch <- d
	}
	rs.events.pdus.Describe(ch)
	rs.txns.Describe(ch)
}

// Collect implements prometheus.Collector.
func (rs *Rooms) Collect(ch chan<- prometheus.Metric) {
	rs.resident.mu.Lock()
	resident := rs.resident.order.Len()
	rs.resident.mu.Unlock()
	count := func(desc *prometheus.Desc, n *atomic.Uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n.Load()), labels...)
	}
	ch <- prometheus.MustNewConstMetric(descResident, prometheus.GaugeValue, float64(resident))
	ch <- prometheus.MustNewConstMetric(descBytes, prometheus.GaugeValue, float64(rs.resident.bytes.Load()))
	count(descPlaced, &rs.metrics.placed)
	count(descRebuilt, &rs.metrics.rebuilt)
	count(descRulesLimited, &rs.metrics.rulesLimited)
	count(descReceived, &rs.metrics.rejected, "rejected")
	count(descReceived, &rs.metrics.softFailed, "soft_failed")
	rs.events.pdus.Collect(ch)
	rs.txns.Collect(ch)
}

// refusedEvent counts an event that was not accepted.
func (m *metrics) refusedEvent(standing roomdb.Standing) {
	switch {
	case standing&roomdb.Rejected != 0:
		m.rejected.Add(1)
	case standing&roomdb.SoftFailed != 0:
		m.softFailed.Add(1)
	}
}
