package auth

import "github.com/prometheus/client_golang/prometheus"

var (
	descKept    = prometheus.NewDesc("stoa_auth_sessions", "Access tokens in the cache.", nil, nil)
	descLookups = prometheus.NewDesc("stoa_auth_session_lookups_total", "Access tokens looked up in the database.", nil, nil)
	descLimited = prometheus.NewDesc("stoa_auth_limited_total", "Attempts above the rate limits that are counted in the database; refused, or only counted if rate_limits is report.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (a *Auth) Describe(ch chan<- *prometheus.Desc) {
	ch <- descKept
	ch <- descLookups
	ch <- descLimited
}

// Collect implements [prometheus.Collector].
func (a *Auth) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descKept, prometheus.GaugeValue, float64(a.sessions.len()))
	ch <- prometheus.MustNewConstMetric(descLookups, prometheus.CounterValue, float64(a.lookups.Load()))
	ch <- prometheus.MustNewConstMetric(descLimited, prometheus.CounterValue, float64(a.limited.Load()))
}
