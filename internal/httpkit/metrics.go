package httpkit

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// durationBounds are the upper bounds of the request histogram in seconds.
var durationBounds = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30}

// countedStatuses are the statuses with their own counter; others count as the last,
// "other".
var countedStatuses = [...]int{200, 201, 204, 302, 304, 400, 401, 403, 404, 405, 408, 409, 413, 429, statusGone, 500, 502, 503, 504, statusAborted, 0}

// statusIndex maps a status to its index in countedStatuses.
var statusIndex = func() (index [600]uint8) {
	for i := range index {
		index[i] = uint8(len(countedStatuses) - 1)
	}
	for i, status := range countedStatuses {
		index[status] = uint8(i)
	}
	index[0] = uint8(len(countedStatuses) - 1)
	return index
}()

// routeCounts are the counters of one route, each changed by one atomic addition.
type routeCounts struct {
	method, pattern string
	statuses        [len(countedStatuses)]atomic.Uint64
	buckets         [len(durationBounds) + 1]atomic.Uint64
	nanoseconds     atomic.Int64
}

func (c *routeCounts) observe(status int, took time.Duration) {
	if status < 0 || status >= len(statusIndex) {
		status = 0
	}
	c.statuses[statusIndex[status]].Add(1)
	seconds := took.Seconds()
	bucket := 0
	for bucket < len(durationBounds) && seconds > durationBounds[bucket] {
		bucket++
	}
	c.buckets[bucket].Add(1)
	c.nanoseconds.Add(int64(took))
}

// metrics collects the metrics of a Mux. Routes without requests are left out.
type metrics struct {
	mux    *Mux
	routes []*routeCounts
	panics atomic.Uint64
	// queryTokens counts requests with an access token in the query.
	queryTokens atomic.Uint64

	requests, seconds, inFlight, panicked, inQuery, bodies, refused, limited, answers, waited, slow *prometheus.Desc
}

func newMetrics(m *Mux) *metrics {
	return &metrics{
		mux: m,
		requests: prometheus.NewDesc("stoa_httpkit_requests_total",
			"Answered requests, by route pattern and status (499: the client went away, 599: cut off).",
			[]string{"method", "route", "status"}, nil),
		seconds: prometheus.NewDesc("stoa_httpkit_request_seconds",
			"Time from a request's header to the end of its handler.", []string{"method", "route"}, nil),
		inFlight: prometheus.NewDesc("stoa_httpkit_in_flight_requests",
			"Requests in progress, by limit class.", []string{"class"}, nil),
		panicked: prometheus.NewDesc("stoa_httpkit_panics_total",
			"Handlers that panicked; the client got 500.", nil, nil),
		inQuery: prometheus.NewDesc("stoa_httpkit_query_tokens_total",
			"Requests with an access token in the query, which old clients send there.", nil, nil),
		bodies: prometheus.NewDesc("stoa_httpkit_body_bytes",
			"Memory of the request bodies in progress.", nil, nil),
		limited: prometheus.NewDesc("stoa_httpkit_limited_addresses_total",
			"Requests above a limit of their address, by class; refused, or only counted if rate_limits is report.", []string{"class"}, nil),
		refused: prometheus.NewDesc("stoa_httpkit_refused_requests_total",
			"Requests refused because too much was in progress, by reason: bodies or slots, of all clients or of one user or address.", []string{"reason"}, nil),
		answers: prometheus.NewDesc("stoa_httpkit_answer_bytes",
			"Memory of the large answers in progress.", nil, nil),
		waited: prometheus.NewDesc("stoa_httpkit_refused_answers_total",
			"Requests refused because they waited too long for memory for a large answer.", nil, nil),
		slow: prometheus.NewDesc("stoa_httpkit_slow_readers_total",
			"Connections cut off because the client did not take its answer.", nil, nil),
	}
}

func (c *metrics) route(method, pattern string) *routeCounts {
	counts := &routeCounts{method: method, pattern: pattern}
	c.routes = append(c.routes, counts)
	return counts
}

// Describe is for the registry.
func (c *metrics) Describe(out chan<- *prometheus.Desc) {
	out <- c.requests
	out <- c.seconds
	out <- c.inFlight
	out <- c.panicked
	out <- c.inQuery
	out <- c.bodies
	out <- c.refused
	out <- c.limited
	out <- c.answers
	out <- c.waited
	out <- c.slow
}

// Collect is for the registry.
func (c *metrics) Collect(out chan<- prometheus.Metric) {
	for _, r := range c.routes {
		for i := range r.statuses {
			n := r.statuses[i].Load()
			if n == 0 {
				continue
			}
			status := "other"
			if countedStatuses[i] != 0 {
				status = strconv.Itoa(countedStatuses[i])
			}
			out <- prometheus.MustNewConstMetric(c.requests, prometheus.CounterValue, float64(n), r.method, r.pattern, status)
		}
		var count uint64
		buckets := make(map[float64]uint64, len(durationBounds))
		for i := range r.buckets {
			count += r.buckets[i].Load()
			if i < len(durationBounds) {
				buckets[durationBounds[i]] = count
			}
		}
		if count > 0 {
			sum := time.Duration(r.nanoseconds.Load()).Seconds()
			out <- prometheus.MustNewConstHistogram(c.seconds, count, sum, buckets, r.method, r.pattern)
		}
	}
	for class := range c.mux.inFlight {
		out <- prometheus.MustNewConstMetric(c.inFlight, prometheus.GaugeValue,
			float64(c.mux.inFlight[class].now.Load()), Limit(class).String())
	}
	for class := range c.mux.limiters {
		if c.mux.limiters[class] != nil {
			out <- prometheus.MustNewConstMetric(c.limited, prometheus.CounterValue, float64(c.mux.limited[class].Load()), Limit(class).String())
		}
	}
	out <- prometheus.MustNewConstMetric(c.panicked, prometheus.CounterValue, float64(c.panics.Load()))
	out <- prometheus.MustNewConstMetric(c.inQuery, prometheus.CounterValue, float64(c.queryTokens.Load()))
	admission := &c.mux.admission
	out <- prometheus.MustNewConstMetric(c.bodies, prometheus.GaugeValue, float64(admission.inUse()))
	answers := c.mux.answers
	out <- prometheus.MustNewConstMetric(c.answers, prometheus.GaugeValue, float64(answers.inUse()))
	out <- prometheus.MustNewConstMetric(c.waited, prometheus.CounterValue, float64(answers.refused.Load()))
	out <- prometheus.MustNewConstMetric(c.slow, prometheus.CounterValue, float64(answers.slow.Load()))
	for why := range admission.refused {
		out <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(admission.refused[why].Load()), refusal(why).String())
	}
}
