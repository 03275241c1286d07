package push

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"stoa/internal/outbound"
)

const (
	// perGateway bounds the concurrent requests of an instance to one gateway.
	perGateway = 64
	// maxGateways bounds the gateways whose state is in memory; beyond it, those that are idle and well are dropped.
	maxGateways = 10_000
	// firstPause and mostPause bound the pauses after requests without an answer.
	firstPause = time.Second
	mostPause  = time.Minute
	// answerBytes bounds the answer of a gateway, reasonBytes the part of it that is kept.
	answerBytes = 64 << 10
	reasonBytes = 300
)

// errPaused says that a gateway is not asked now, because it has not answered lately or is busy.
var errPaused = errors.New("push: the gateway has a pause")

// gateways is what this instance knows of the gateways that it sends to.
type gateways struct {
	now func() time.Time

	mu   sync.Mutex // guards all below, and the fields of each gateway
	list map[string]*gateway
}

// gateway is one host. The lock of gateways guards it.
type gateway struct {
	all     *gateways
	slots   chan struct{}
	pause   time.Duration // after the last request without an answer; 0 = it has answered
	until   time.Time     // no request before
	probing bool          // the one request after a pause is under way
	// slow gateways are sent to by jobs only, so that nobody waits for them.
	slow   bool
	answer time.Time // of its last answer
	users  int
}

func newGateways(now func() time.Time) *gateways {
	return &gateways{now: now, list: map[string]*gateway{}}
}

// of returns the gateway of a URL, for use until release.
func (g *gateways) of(text string) *gateway {
	host := text
	if u, err := url.Parse(text); err == nil {
		host = u.Scheme + "://" + strings.ToLower(u.Host)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	found := g.list[host]
	if found == nil {
		if len(g.list) >= maxGateways {
			for name, x := range g.list {
				if x.users == 0 && x.pause == 0 {
					delete(g.list, name)
				}
			}
		}
		found = &gateway{all: g, slots: make(chan struct{}, perGateway)}
		g.list[host] = found
	}
	found.users++
	return found
}

func (g *gateway) release() {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	g.users--
}

// isFast reports whether a caller may wait for the gateway's answers.
func (g *gateway) isFast() bool {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	return !g.slow && g.pause == 0
}

// markSlow notes that a caller had to wait for long.
func (g *gateway) markSlow() {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	g.slow = true
}

// pauseLeft is the time until the gateway may be asked again.
func (g *gateway) pauseLeft() time.Duration {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	return max(0, g.until.Sub(g.all.now()))
}

// begin admits a request: after a pause only one, until it has an answer.
func (g *gateway) begin() bool {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	if g.all.now().Before(g.until) || g.probing {
		return false
	}
	g.probing = g.pause > 0
	return true
}

// end notes whether a request had an answer, and how long that took.
func (g *gateway) end(answered bool, took time.Duration) {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	g.probing = false
	if !answered {
		g.pause = min(max(2*g.pause, firstPause), mostPause)
		g.until = g.all.now().Add(g.pause)
		return
	}
	g.pause, g.until = 0, time.Time{}
	g.answer = time.Now()
	if took < stallTime/2 {
		g.slow = false
	}
}

// lastAnswer is when the gateway last answered.
func (g *gateway) lastAnswer() time.Time {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	return g.answer
}

// rejectedError says that a gateway does not know a pushkey any more.
type rejectedError struct{}

func (rejectedError) Error() string { return "the gateway has rejected the pushkey" }

// send makes one request. With wait it waits for a free slot, else it returns errPaused.
func (p *Push) send(ctx context.Context, g *gateway, d *data, pushkey string, body []byte, wait bool) error {
	if wait {
		select {
		case g.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	} else {
		select {
		case g.slots <- struct{}{}:
		default:
			return errPaused
		}
	}
	defer func() { <-g.slots }()
	if !g.begin() {
		return errPaused
	}
	start := time.Now()
	answered, err := p.request(ctx, d.url, pushkey, body)
	if ctx.Err() != nil && !answered {
		g.abandon()
		return ctx.Err()
	}
	took := time.Since(start)
	g.end(answered, took)
	p.metrics.count(err, took)
	return err
}

// abandon ends a request that was given up, which says nothing of the gateway.
func (g *gateway) abandon() {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	g.probing = false
}

// request makes one request. answered reports whether the gateway is reachable.
//
// Spec: push-gateway-api#post_matrixpushv1notify
func (p *Push) request(ctx context.Context, address, pushkey string, body []byte) (answered bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.opt.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return true, err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := p.opt.Client.Do(r)
	if err != nil {
		// These say nothing of how fast the gateway is.
		known := errors.Is(err, outbound.ErrPrivate) || errors.Is(err, outbound.ErrURL) || errors.Is(err, outbound.ErrRedirects)
		return known, err
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, answerBytes))
	if closed := res.Body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return false, err
	}
	if res.StatusCode/100 != 2 {
		return true, fmt.Errorf("the gateway answered %d: %s", res.StatusCode, plain(string(text), reasonBytes))
	}
	var answer struct {
		Rejected []string `json:"rejected"`
	}
	// Some gateways answer with no JSON; the status says that they took it.
	_ = json.Unmarshal(text, &answer)
	if slices.Contains(answer.Rejected, pushkey) {
		return true, rejectedError{}
	}
	return true, nil
}

// plain is a text that can be stored and shown, cut to a number of bytes.
func plain(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return strings.TrimSpace(text)
}
