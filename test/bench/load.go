package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// runLoad is one client process: a spec on standard input, a result on
// standard output.
func runLoad(kind string) error {
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	kinds := map[string]func([]byte) (any, error){
		"send": decoded(loadSend), "fanout": decoded(loadFanout), "poll": decoded(loadPoll),
		"get": decoded(loadGet), "join": decoded(loadJoin), "insert": decoded(loadInsert),
		"rounds": decoded(loadRounds), "connections": decoded(loadConnections),
	}
	run, ok := kinds[kind]
	if !ok {
		return fmt.Errorf("no load %q", kind)
	}
	result, err := run(in)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func decoded[S, R any](f func(S) (R, error)) func([]byte) (any, error) {
	return func(in []byte) (any, error) {
		var spec S
		if err := json.Unmarshal(in, &spec); err != nil {
			return nil, err
		}
		return f(spec)
	}
}

// sendSpec: every sender has a connection and a token of its own and sends to
// the rooms in turn, each sender from another place in the list.
type sendSpec struct {
	Addr    string
	Addrs   []string // instead of Addr: the senders connect to these in turn
	Tokens  []string
	Rooms   []string
	Seconds float64
	Times   int     // messages of each sender, if it is done sooner; 0 = any number
	Rate    float64 // messages/s of all senders together; 0 = as fast as answers come
	Size    int     // bytes of the body
	Prefix  string  // of transaction IDs, new for each run
}

type sendResult struct {
	Sent      int
	Seconds   float64
	P50, P99  float64 // ms from request to answer
	PerSecond float64
}

func loadSend(spec sendSpec) (sendResult, error) {
	begin := time.Now()
	end := begin.Add(time.Duration(spec.Seconds * float64(time.Second)))
	took := make([][]time.Duration, len(spec.Tokens))
	err := each(len(spec.Tokens), func(i int) error {
		c, err := dial(inTurn(spec.Addr, spec.Addrs, i), 4096)
		if err != nil {
			return err
		}
		defer c.Close()
		next := begin
		if spec.Rate > 0 {
			next = begin.Add(time.Duration(float64(i) / spec.Rate * float64(time.Second)))
		}
		buf := make([]byte, 4096)
		for n := 0; ; n++ {
			if spec.Rate > 0 {
				time.Sleep(time.Until(next))
				next = next.Add(time.Duration(float64(len(spec.Tokens)) / spec.Rate * float64(time.Second)))
			}
			sent := time.Now()
			if sent.After(end) || n == spec.Times && n > 0 {
				return nil
			}
			room := spec.Rooms[(i+n)%len(spec.Rooms)]
			target := "/_matrix/client/v3/rooms/" + url.PathEscape(room) + "/send/m.room.message/" + spec.Prefix + strconv.Itoa(i) + "." + strconv.Itoa(n)
			if _, err := c.do("PUT", target, spec.Tokens[i], message(sent, spec.Size), buf); err != nil {
				return err
			}
			took[i] = append(took[i], time.Since(sent))
		}
	})
	all := slices.Concat(took...)
	seconds := time.Since(begin).Seconds()
	p50, p99 := quantiles(all)
	return sendResult{Sent: len(all), Seconds: seconds, P50: p50, P99: p99, PerSecond: float64(len(all)) / seconds}, err
}

// stamp marks when a message was sent, so that who sees it knows its age.
const stamp = "sent at "

func message(at time.Time, size int) []byte {
	m := append([]byte(`{"msgtype":"m.text","body":"`+stamp), strconv.FormatInt(at.UnixNano(), 10)...)
	m = append(m, ' ')
	for len(m) < size-2 {
		m = append(m, 'x')
	}
	return append(m, `"}`...)
}

// fanoutSpec: every member syncs once, then goes on from where it is.
type fanoutSpec struct {
	Addr    string
	Addrs   []string // instead of Addr: the members connect to these in turn
	Tokens  []string
	Filter  string
	Seconds float64
	Ready   string // a file made when every member waits
}

type fanoutResult struct {
	Deliveries int // one event in one member's answer
	Answers    int
	Seconds    float64 // from the first delivery to the last
	PerSecond  float64
	P50, P99   float64 // ms from send to seen
	Slowest    float64 // ms
}

func loadFanout(spec fanoutSpec) (fanoutResult, error) {
	var ready, answers atomic.Int64
	var end atomic.Pointer[time.Time]
	var mu sync.Mutex
	var ages []time.Duration
	var first, last time.Time
	err := each(len(spec.Tokens), func(i int) error {
		c, err := dial(inTurn(spec.Addr, spec.Addrs, i), 65536)
		if err != nil {
			return err
		}
		defer c.Close()
		body, err := c.do("GET", "/_matrix/client/v3/sync?timeout=0&filter="+url.QueryEscape(spec.Filter), spec.Tokens[i], nil, nil)
		if err != nil {
			return err
		}
		since := field(body, "next_batch")
		if ready.Add(1) == int64(len(spec.Tokens)) {
			stop := time.Now().Add(time.Duration(spec.Seconds * float64(time.Second)))
			end.Store(&stop)
			if err := os.WriteFile(spec.Ready, nil, 0o600); err != nil {
				return err
			}
		}
		var own []time.Duration
		var ownFirst, ownLast time.Time
		for stop := end.Load(); stop == nil || time.Now().Before(*stop); stop = end.Load() {
			body, err = c.do("GET", "/_matrix/client/v3/sync?timeout=2000&filter="+url.QueryEscape(spec.Filter)+"&since="+since, spec.Tokens[i], nil, body)
			if err != nil {
				return err
			}
			answers.Add(1)
			since = field(body, "next_batch")
			now := time.Now()
			before := len(own)
			own = appendAges(own, body, now)
			if len(own) > before {
				if ownFirst.IsZero() {
					ownFirst = now
				}
				ownLast = now
			}
		}
		mu.Lock()
		defer mu.Unlock()
		ages = append(ages, own...)
		if first.IsZero() || (!ownFirst.IsZero() && ownFirst.Before(first)) {
			first = ownFirst
		}
		if ownLast.After(last) {
			last = ownLast
		}
		return nil
	})
	seconds := last.Sub(first).Seconds()
	p50, p99 := quantiles(ages)
	return fanoutResult{Deliveries: len(ages), Answers: int(answers.Load()), Seconds: seconds, PerSecond: float64(len(ages)) / max(seconds, 1e-9), P50: p50, P99: p99, Slowest: slowest(ages)}, err
}

func appendAges(ages []time.Duration, body []byte, now time.Time) []time.Duration {
	for {
		i := bytes.Index(body, []byte(stamp))
		if i < 0 {
			return ages
		}
		body = body[i+len(stamp):]
		j := bytes.IndexByte(body, ' ')
		if j < 0 {
			return ages
		}
		if at, err := strconv.ParseInt(string(body[:j]), 10, 64); err == nil {
			ages = append(ages, now.Sub(time.Unix(0, at)))
		}
	}
}

// pollSpec: all connections hold a long poll; a poll that ends begins again.
// Without tokens the floor is asked, which needs none.
type pollSpec struct {
	Addr      string
	Addrs     []string // instead of Addr: the clients connect to these in turn
	Tokens    []string
	Count     int
	TimeoutMS int
	Filter    string
	Ready     string // a file made when all have begun their first long poll
	Seconds   float64
}

type pollResult struct{ Polls int }

func loadPoll(spec pollSpec) (pollResult, error) {
	var polls, begun atomic.Int64
	gate := make(chan struct{}, 64) // initial syncs at once
	stop := make(chan struct{})
	err := each(spec.Count, func(i int) error {
		gate <- struct{}{} // before it connects: a server drops who says nothing
		c, err := dial(inTurn(spec.Addr, spec.Addrs, i), 1024)
		if err != nil {
			return err
		}
		defer c.Close()
		token, since := "", "0"
		if len(spec.Tokens) > 0 {
			token = spec.Tokens[i]
			body, err := c.do("GET", "/_matrix/client/v3/sync?timeout=0&filter="+url.QueryEscape(spec.Filter), token, nil, nil)
			if err != nil {
				return fmt.Errorf("initial sync of user %d: %w", i, err)
			}
			since = field(body, "next_batch")
		}
		<-gate
		buf := make([]byte, 512)
		first := true
		for {
			target := "/_matrix/client/v3/sync?timeout=" + strconv.Itoa(spec.TimeoutMS) + "&filter=" + url.QueryEscape(spec.Filter) + "&since=" + since
			if err := c.write("GET", target, token, nil); err != nil {
				return err
			}
			if first && begun.Add(1) == int64(spec.Count) {
				if err := os.WriteFile(spec.Ready, nil, 0o600); err != nil {
					return err
				}
				time.AfterFunc(time.Duration(spec.Seconds*float64(time.Second)), func() { close(stop) })
			}
			first = false
			status, body, err := c.read(buf)
			if err != nil {
				return fmt.Errorf("poll of user %d: %w", i, err)
			}
			if status != 200 {
				return fmt.Errorf("poll: %d %s", status, body)
			}
			polls.Add(1)
			if next := field(body, "next_batch"); next != "" {
				since = next
			}
			select {
			case <-stop:
				return nil
			default:
			}
		}
	})
	return pollResult{Polls: int(polls.Load())}, err
}

// getSpec asks for the same thing again and again on one connection.
type getSpec struct {
	Addr, Token, Target string
	// Body is sent with POST; none with GET.
	Body  string
	Times int
}

type getResult struct {
	// FirstMS is the time of the first request.
	FirstMS, MedianMS float64
	Bytes             int
}

func loadGet(spec getSpec) (getResult, error) {
	c, err := dial(spec.Addr, 65536)
	if err != nil {
		return getResult{}, err
	}
	defer c.Close()
	var took []time.Duration
	var body, sent []byte
	method := "GET"
	if spec.Body != "" {
		method, sent = "POST", []byte(spec.Body)
	}
	for range spec.Times {
		begin := time.Now()
		if body, err = c.do(method, spec.Target, spec.Token, sent, body); err != nil {
			return getResult{}, err
		}
		took = append(took, time.Since(begin))
	}
	p50, _ := quantiles(took)
	return getResult{FirstMS: float64(took[0].Microseconds()) / 1000, MedianMS: p50, Bytes: len(body)}, nil
}

// joinSpec: all tokens join one room, so many at a time; then the next room. The
// first room warms the server up and is not measured.
type joinSpec struct {
	Addr     string
	Tokens   []string
	Rooms    []string
	Parallel int
}

// joinResult has the medians over the rooms measured. A hundred joins take 60 ms
// or so, in which one slow fsync would decide the figure of a single room.
type joinResult struct {
	PerSecond                 float64
	FirstHundred, LastHundred float64 // joins/s
}

func loadJoin(spec joinSpec) (joinResult, error) {
	conns := make([]*conn, spec.Parallel)
	for i := range conns {
		c, err := dial(spec.Addr, 4096)
		if err != nil {
			return joinResult{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	var whole, first, last []time.Duration
	for i, room := range spec.Rooms {
		done, err := joinAll(conns, spec.Tokens, room)
		if err != nil {
			return joinResult{}, err
		}
		if i > 0 {
			n := len(done)
			whole, first, last = append(whole, done[n-1]), append(first, done[99]), append(last, done[n-1]-done[n-101])
		}
	}
	perSecond := func(joins int, took []time.Duration) float64 {
		p50, _ := quantiles(took)
		return float64(joins) / p50 * 1000
	}
	return joinResult{perSecond(len(spec.Tokens), whole), perSecond(100, first), perSecond(100, last)}, nil
}

// joinAll gives the time from the beginning to each join's answer, in order.
func joinAll(conns []*conn, tokens []string, room string) ([]time.Duration, error) {
	var next, order atomic.Int64
	done := make([]time.Duration, len(tokens))
	begin := time.Now()
	err := each(len(conns), func(worker int) error {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(tokens) {
				return nil
			}
			if _, err := conns[worker].do("POST", "/_matrix/client/v3/join/"+url.PathEscape(room), tokens[i], []byte("{}"), nil); err != nil {
				return err
			}
			done[order.Add(1)-1] = time.Since(begin)
		}
	})
	slices.Sort(done) // two that end at once may take their places in the other order
	return done, err
}

// inTurn is the address for the i-th client.
func inTurn(one string, many []string, i int) string {
	if len(many) == 0 {
		return one
	}
	return many[i%len(many)]
}

// each runs n workers and gives the first error.
func each(n int, f func(i int) error) error {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- f(i) }()
	}
	for range n {
		if err := <-errs; err != nil {
			return err // the others may wait for what never comes; the process ends
		}
	}
	return nil
}

// quantiles gives the median and the 99th percentile in milliseconds.
func quantiles(d []time.Duration) (p50, p99 float64) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	ms := func(q float64) float64 {
		return float64(d[min(len(d)-1, int(q*float64(len(d))))]) / float64(time.Millisecond)
	}
	return ms(0.5), ms(0.99)
}

// slowest gives the longest in milliseconds.
func slowest(d []time.Duration) float64 {
	if len(d) == 0 {
		return 0
	}
	return float64(slices.Max(d)) / float64(time.Millisecond)
}
