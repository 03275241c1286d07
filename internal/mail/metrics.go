package mail

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are the metrics, each changed by one atomic operation.
type counts struct {
	sent, failed, refused, expired, bounced, delayed, reported atomic.Uint64
	down                                                       atomic.Int64
}

var (
	descSent     = prometheus.NewDesc("stoa_mail_sent_total", "Mails that the mail server has accepted.", nil, nil)
	descFailed   = prometheus.NewDesc("stoa_mail_failed_attempts_total", "Attempts to send a mail that failed and are made again.", nil, nil)
	descRefused  = prometheus.NewDesc("stoa_mail_refused_total", "Mails that the mail server refused for good.", nil, nil)
	descDropped  = prometheus.NewDesc("stoa_mail_dropped_total", "Mails that were not sent, by reason: expired (not sent in time), bounced (a notification for an address whose mails come back).", []string{"reason"}, nil)
	descDelayed  = prometheus.NewDesc("stoa_mail_delayed_total", "Times that a mail had to wait for the budget.", nil, nil)
	descReported = prometheus.NewDesc("stoa_mail_bounces_reported_total", "Addresses that were reported as ones whose mails come back.", nil, nil)
	descDown     = prometheus.NewDesc("stoa_mail_server_down", "1 if the last attempt of this instance to use the mail server failed.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (m *Mailer) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSent, descFailed, descRefused, descDropped, descDelayed, descReported, descDown} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *Mailer) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n *atomic.Uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n.Load()), labels...)
	}
	count(descSent, &m.counts.sent)
	count(descFailed, &m.counts.failed)
	count(descRefused, &m.counts.refused)
	count(descDropped, &m.counts.expired, "expired")
	count(descDropped, &m.counts.bounced, "bounced")
	count(descDelayed, &m.counts.delayed)
	count(descReported, &m.counts.reported)
	ch <- prometheus.MustNewConstMetric(descDown, prometheus.GaugeValue, float64(m.counts.down.Load()))
}
