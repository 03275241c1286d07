package preview

import "github.com/prometheus/client_golang/prometheus"

var (
	descPreviews = prometheus.NewDesc("stoa_preview_requests_total", "Previews of links asked for, by outcome: cached, made, failed (the site can't be fetched), refused (by limits or lists).", []string{"outcome"}, nil)
	descFetches  = prometheus.NewDesc("stoa_preview_fetches", "Links being fetched for previews.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (p *Previews) Describe(ch chan<- *prometheus.Desc) {
	ch <- descPreviews
	ch <- descFetches
}

// Collect implements [prometheus.Collector].
func (p *Previews) Collect(ch chan<- prometheus.Metric) {
	for outcome, n := range map[string]uint64{"cached": p.cached.Load(), "made": p.made.Load(), "failed": p.failed.Load(), "refused": p.refused.Load()} {
		ch <- prometheus.MustNewConstMetric(descPreviews, prometheus.CounterValue, float64(n), outcome)
	}
	p.mu.Lock()
	n := len(p.fetches)
	p.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(descFetches, prometheus.GaugeValue, float64(n))
}
