package account

import "github.com/prometheus/client_golang/prometheus"

var (
	descHashes  = prometheus.NewDesc("stoa_account_password_hashes_total", "Passwords hashed or checked.", nil, nil)
	descRefused = prometheus.NewDesc("stoa_account_password_hashes_refused_total", "Password hashes refused because the queue was full.", nil, nil)
	descHashing = prometheus.NewDesc("stoa_account_password_hashes_pending", "Password hashes being computed or queued.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (a *Accounts) Describe(ch chan<- *prometheus.Desc) {
	ch <- descHashes
	ch <- descRefused
	ch <- descHashing
}

// Collect implements [prometheus.Collector].
func (a *Accounts) Collect(ch chan<- prometheus.Metric) {
	h := a.hasher
	ch <- prometheus.MustNewConstMetric(descHashes, prometheus.CounterValue, float64(h.done.Load()))
	ch <- prometheus.MustNewConstMetric(descRefused, prometheus.CounterValue, float64(h.refused.Load()))
	ch <- prometheus.MustNewConstMetric(descHashing, prometheus.GaugeValue, float64(h.waiting.Load()))
}
