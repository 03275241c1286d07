package server

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"stoa/internal/httpkit"
	"stoa/internal/store"
)

const (
	// drainTime bounds a stop without the store's last commit. With that it stays within
	// the 10 s that a stop may take.
	drainTime = 8 * time.Second
	// lingerTime bounds the time in which a stopping server goes on serving, so that
	// balancers notice.
	lingerTime = 4 * time.Second
	// lingerMore is for the answers to the balancers' last health checks, and for the
	// requests that they sent before.
	lingerMore = 500 * time.Millisecond
)

// readiness is the route of the balancers' health checks.
func (srv *Server) readiness() []httpkit.Route {
	return []httpkit.Route{{Method: http.MethodGet, Pattern: "/ready", NoBarrier: true, Limit: httpkit.LimitProbe, Handler: httpkit.Adapt(srv.ready)}}
}

// readiness of a server that serves, but not all of it.
type degraded struct {
	Degraded []string `json:"degraded"`
}

// ready answers 200, or 503 while the server drains, can't reach its database, which
// other instances may still reach, or can't write to it. While uploads can't be kept it
// answers 200 and names "media" in its body: the other instances have the same bucket,
// and without media everything else goes on.
func (srv *Server) ready(r *http.Request) (httpkit.Answer, error) {
	srv.asked.note(time.Now(), httpkit.ClientAddress(r))
	if srv.draining.Load() || srv.services.Cluster.Healthy() != nil || store.Healthy(r.Context(), srv.services.Store) != nil {
		return httpkit.Answer{Status: http.StatusServiceUnavailable}, nil
	}
	if srv.media.Healthy() != nil {
		return httpkit.Answer{Status: http.StatusOK, Body: degraded{[]string{"media"}}}, nil
	}
	return httpkit.Answer{Status: http.StatusOK}, nil
}

// Stop drains the server. First it tells balancers, and goes on serving until they have
// noticed, while this instance's rooms move to others. Then it closes the listeners,
// answers waiting requests and finishes those in progress; after drainTime it cancels the
// rest. Finally it closes the services. It may be called even if Open failed.
func (srv *Server) Stop() error {
	log := srv.opt.Log
	srv.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	for _, s := range srv.servers {
		s.WindDown()
	}
	var moves errorGroup
	moves.run(func() error { return srv.services.Cluster.Drain(ctx) })
	if linger := srv.asked.linger(time.Now()); linger > 0 {
		log.Info("serving until the balancers have noticed", "took_ms", linger.Milliseconds())
		select {
		case <-time.After(linger):
		case <-srv.failed:
		}
	}
	if err := moves.wait(); err != nil {
		log.Warn("the other instances were not told that this one stops", "err", err)
	}
	var drains errorGroup
	for _, s := range srv.servers {
		drains.run(func() error { return s.Drain(ctx) })
	}
	srv.stream.Stop()
	if err := drains.wait(); err != nil {
		log.Warn("requests were cut off", "err", err)
	}
	if err := srv.services.Cluster.Leave(ctx); err != nil {
		log.Warn("leave the cluster", "err", err)
	}
	if srv.halt != nil {
		srv.halt()
	}
	srv.workers.End()
	return errors.Join(srv.runs.wait(), srv.services.Close())
}

// Bounds of the health checks that are remembered.
const (
	askedKept    = 256
	checkedSince = 30 * time.Second // an older check is of a balancer that is gone
	balancers    = 8                // on one address
)

// healthChecks are the last health checks. The zero value is empty.
type healthChecks struct {
	mu   sync.Mutex    // guards last; nothing is locked after it
	last []healthCheck // the oldest first
}

type healthCheck struct {
	at   time.Time
	from netip.Addr
}

func (a *healthChecks) note(at time.Time, from netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.last) == askedKept {
		a.last = append(a.last[:0], a.last[1:]...)
	}
	a.last = append(a.last, healthCheck{at, from})
}

// linger is how long to go on serving: two intervals of the slowest balancer and
// lingerMore, at most lingerTime. It is 0 if there were fewer than two recent health
// checks.
func (a *healthChecks) linger(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	times := map[netip.Addr][]time.Time{}
	for _, q := range a.last {
		if now.Sub(q.at) <= checkedSince {
			times[q.from] = append(times[q.from], q.at)
		}
	}
	var longest time.Duration
	for _, list := range times {
		if len(list) > 1 {
			longest = max(longest, min(2*interval(list)+lingerMore, lingerTime))
		}
	}
	return longest
}

// interval returns the interval of the balancers at one address, from the times of their
// health checks. With n balancers, every nth check is by the same one, so n is the
// smallest number for which these are evenly spaced. If there is none, the interval is
// the longest one supported.
func interval(times []time.Time) time.Duration {
	for n := 1; n <= balancers && len(times) > n; n++ {
		recent := times[max(0, len(times)-3*n-1):]
		if len(recent) <= n || n > 1 && len(recent) < 2*n+1 {
			break
		}
		shortest, longest := time.Duration(1<<62), time.Duration(0)
		for i := range recent[n:] {
			distance := recent[i+n].Sub(recent[i])
			shortest, longest = min(shortest, distance), max(longest, distance)
		}
		if longest-shortest <= longest/8 {
			return longest
		}
	}
	return lingerTime / 2
}
