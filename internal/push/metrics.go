package push

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what happens to notifications.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
	queued   prometheus.Counter
	dropped  prometheus.Counter
}

// Results of requests, as labels of a metric.
const (
	resultTaken    = "taken"
	resultRejected = "rejected"
	resultFailed   = "failed"
)

func newMetrics() metrics {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stoa_push_requests_total",
			Help: "Requests to push gateways, by result: taken, rejected (the pushkey is no longer valid, and the pusher was deleted), failed (no answer, or an error).",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "stoa_push_request_seconds", Help: "Duration of requests to push gateways.",
			Buckets: []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10},
		}),
		queued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stoa_push_queued_total", Help: "Notifications that a gateway did not take at once, and that were stored to be sent again.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stoa_push_dropped_total", Help: "Notifications that were given up, because their gateway has failed for too long or too many were waiting.",
		}),
	}
	for _, result := range []string{resultTaken, resultRejected, resultFailed} {
		m.requests.WithLabelValues(result)
	}
	return m
}

// count counts a request that has ended.
func (m *metrics) count(err error, took time.Duration) {
	result := resultFailed
	switch {
	case err == nil:
		result = resultTaken
	case errors.As(err, new(rejectedError)):
		result = resultRejected
	}
	m.requests.WithLabelValues(result).Inc()
	m.seconds.Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (p *Push) Describe(ch chan<- *prometheus.Desc) {
	p.metrics.requests.Describe(ch)
	p.metrics.seconds.Describe(ch)
	p.metrics.queued.Describe(ch)
	p.metrics.dropped.Describe(ch)
}

// Collect implements prometheus.Collector.
func (p *Push) Collect(ch chan<- prometheus.Metric) {
	p.metrics.requests.Collect(ch)
	p.metrics.seconds.Collect(ch)
	p.metrics.queued.Collect(ch)
	p.metrics.dropped.Collect(ch)
}
