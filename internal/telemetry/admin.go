package telemetry

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry returns the metrics registry of one server, with the metrics of the Go
// runtime and the process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Check is one condition of a healthy server. Its error says why the condition is not
// met. ctx ends after checkTime.
type Check func(ctx context.Context) error

// checkTime bounds one check.
const checkTime = 2 * time.Second

// Health is the set of conditions under which the server is healthy. They are added
// during construction, and checked from then on.
type Health struct {
	mu     sync.Mutex // guards checks; nothing is locked after it
	checks map[string]Check
}

// Add adds a condition under a name.
func (h *Health) Add(name string, c Check) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.checks == nil {
		h.checks = map[string]Check{}
	}
	h.checks[name] = c
}

// Unmet checks all conditions concurrently and returns the reason of each that is not
// met.
func (h *Health) Unmet(ctx context.Context) map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	type result struct {
		name string
		err  error
	}
	results := make(chan result, len(h.checks))
	for name, check := range h.checks {
		go func() { results <- result{name, check(ctx)} }()
	}
	unmet := map[string]string{}
	for range h.checks {
		if r := <-results; r.err != nil {
			unmet[r.name] = r.err.Error()
		}
	}
	return unmet
}

// AdminHandler serves /metrics, /health (200, or 503 with the reasons) and
// /debug/pprof. It is for operators: it has no authentication of its own.
func AdminHandler(gatherer prometheus.Gatherer, health *Health) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		unmet := health.Unmet(r.Context())
		status := http.StatusOK
		if len(unmet) > 0 {
			status = http.StatusServiceUnavailable
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		// An error means that the client has disconnected.
		_ = json.NewEncoder(w).Encode(map[string]any{"healthy": len(unmet) == 0, "unmet": unmet})
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// IsLoopback reports whether only this machine can reach a listen address.
func IsLoopback(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
