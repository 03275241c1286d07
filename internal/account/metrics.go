package account

import "github.com/prometheus/client_golang/prometheus"

var (
	descHashes  = prometheus.NewDesc("stoa_account_password_hashes_total", "Passwords hashed and checked.", nil, nil)
	descRefused = prometheus.NewDesc("stoa_account_password_hashes_refused_total", "Password hashes refused because too many waited.", nil, nil)
	descHashing = prometheus.NewDesc("stoa_account_password_hashes_pending", "Password hashes being computed or waiting for it.", nil, nil)
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
