package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// roundsSpec: the ways of doing one thing are tried in turn, one request at a time,
// so that all see the same machine. Each round begins with another way.
type roundsSpec struct {
	Ways   []way
	Rounds int
	Gap    time.Duration // between the answer to a request and the next one
}

// way is a request to repeat. {n} in its target is the number of the round.
type way struct {
	Addr, Method, Target, Token string
	Header                      string // another line of the header; "" = none
	Body                        []byte
}

type roundsResult struct {
	P50, P99 []float64 // ms, one a way
}

func loadRounds(spec roundsSpec) (r roundsResult, err error) {
	conns := make([]*conn, len(spec.Ways))
	for i, w := range spec.Ways {
		if conns[i], err = dial(w.Addr, 65536); err != nil {
			return r, err
		}
		defer conns[i].Close()
		conns[i].header = w.Header
	}
	took := make([][]time.Duration, len(conns))
	buf := make([]byte, 65536)
	warm := spec.Rounds / 10
	for n := range spec.Rounds + warm {
		for k := range conns {
			i := (k + n) % len(conns)
			w := &spec.Ways[i]
			begin := time.Now()
			if _, err := conns[i].do(w.Method, strings.ReplaceAll(w.Target, "{n}", strconv.Itoa(n)), w.Token, w.Body, buf); err != nil {
				return r, err
			}
			if n >= warm {
				took[i] = append(took[i], time.Since(begin))
			}
			time.Sleep(spec.Gap)
		}
	}
	for _, t := range took {
		p50, p99 := quantiles(t)
		r.P50, r.P99 = append(r.P50, p50), append(r.P99, p99)
	}
	return r, nil
}

// connectionsSpec: so many connections ask for the same thing, each as soon as it has
// been answered, or with a pause.
type connectionsSpec struct {
	Addr, Target string
	Addrs        []string // instead of Addr: the connections go to these in turn
	Method       string   // "" = GET
	Body         []byte
	Tokens       []string // one a connection
	Seconds      float64
	Pause        time.Duration
}

type connectionsResult struct {
	Answers           int
	P50, P99, Slowest float64 // ms
}

func loadConnections(spec connectionsSpec) (connectionsResult, error) {
	end := time.Now().Add(time.Duration(spec.Seconds * float64(time.Second)))
	var mu sync.Mutex
	var all []time.Duration
	err := each(len(spec.Tokens), func(i int) error {
		c, err := dial(inTurn(spec.Addr, spec.Addrs, i), 65536)
		if err != nil {
			return err
		}
		defer c.Close()
		var own []time.Duration
		var body []byte
		for begin := time.Now(); begin.Before(end); begin = time.Now() {
			if body, err = c.do(cmp.Or(spec.Method, "GET"), spec.Target, spec.Tokens[i], spec.Body, body); err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			own = append(own, time.Since(begin))
			time.Sleep(spec.Pause)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, own...)
		return nil
	})
	p50, p99 := quantiles(all)
	return connectionsResult{Answers: len(all), P50: p50, P99: p99, Slowest: slowest(all)}, err
}
