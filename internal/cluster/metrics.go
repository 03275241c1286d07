package cluster

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is the way in which a request with a home was served.
type outcome int

const (
	outcomeHome        outcome = iota // this instance is the home
	outcomeForwarded                  // another instance answered
	outcomeUnreachable                // served here: the home was not reached
	outcomeRepeated                   // served here: the home was lost, the transaction ID decides
	outcomeLost                       // refused: the home was lost
	outcomeGone                       // the client went away
	outcomes
)

var outcomeNames = [outcomes]string{"home", "forwarded", "unreachable", "repeated", "lost", "gone"}

// metrics are counters, one atomic addition each.
type metrics struct {
	forwards                        [outcomes]atomic.Uint64
	served, beatsFailed, leasesLost atomic.Uint64
	replicated, replicationLost     atomic.Uint64 // bytes
	tookNS                          atomic.Int64
}

func (m *metrics) outcome(o outcome) { m.forwards[o].Add(1) }

func (m *metrics) took(d time.Duration) { m.tookNS.Add(int64(d)) }

var (
	descForwards   = prometheus.NewDesc("stoa_cluster_forwards_total", "Requests that write a room, by outcome: served here as its home, forwarded, served here because the home was unreachable or was lost (repeated), refused because it was lost, given up by the client.", []string{"outcome"}, nil)
	descTook       = prometheus.NewDesc("stoa_cluster_forward_seconds_total", "Time spent waiting for answers of the homes of rooms.", nil, nil)
	descServed     = prometheus.NewDesc("stoa_cluster_served_requests_total", "Requests served for other instances.", nil, nil)
	descReplicated = prometheus.NewDesc("stoa_cluster_handed_bytes_total", "Bytes of committed groups sent to other instances, so that they need not read them, by outcome (sent, lost).", []string{"outcome"}, nil)
	descPeers      = prometheus.NewDesc("stoa_cluster_peers", "Other live instances, by whether they answer.", []string{"state"}, nil)
	descAge        = prometheus.NewDesc("stoa_cluster_lease_age_seconds", "Time since the lease was last renewed; past 4 s this instance stops acting as an owner.", nil, nil)
	descBeats      = prometheus.NewDesc("stoa_cluster_failed_renewals_total", "Failed renewals of the lease.", nil, nil)
	descLost       = prometheus.NewDesc("stoa_cluster_lost_leases_total", "Leases that expired before they were renewed.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *Cluster) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descForwards, descTook, descServed, descReplicated, descPeers, descAge, descBeats, descLost} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. A single instance has no cluster metrics.
func (c *Cluster) Collect(ch chan<- prometheus.Metric) {
	if c.leases == nil {
		return
	}
	counter := func(desc *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, n, labels...)
	}
	gauge := func(desc *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, n, labels...)
	}
	for o, name := range outcomeNames {
		counter(descForwards, float64(c.metrics.forwards[o].Load()), name)
	}
	counter(descTook, time.Duration(c.metrics.tookNS.Load()).Seconds())
	counter(descServed, float64(c.metrics.served.Load()))
	counter(descReplicated, float64(c.metrics.replicated.Load()), "sent")
	counter(descReplicated, float64(c.metrics.replicationLost.Load()), "lost")
	counter(descBeats, float64(c.metrics.beatsFailed.Load()))
	counter(descLost, float64(c.metrics.leasesLost.Load()))
	up, silent := 0, 0
	if v := c.view.Load(); v != nil {
		for _, p := range v.peers {
			if p.link.Load() != nil {
				up++
			} else {
				silent++
			}
		}
	}
	gauge(descPeers, float64(up), "up")
	gauge(descPeers, float64(silent), "suspect")
	if asked := c.asked.Load(); asked != nil {
		gauge(descAge, c.opt.Clock().Sub(*asked).Seconds())
	}
}
