package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"stoa/test/kit"
)

const (
	roomSize  = 10
	sendEvery = 2 * time.Second // on average, each person
	seenAfter = 30 * time.Second
)

// chat is people who talk in rooms, each from an address of their own, and what they notice.
type chat struct {
	rooms  []string
	people []*person
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu   sync.Mutex // guards what follows
	sent []time.Duration
	bad  []string // what failed
	said map[string]*message
}

type person struct {
	kit.Client
	id, room string
}

// message is one that was acknowledged, and who has yet to see it.
type message struct {
	at   time.Time
	room string
	seen map[string]bool
}

// from is an HTTP client that comes from an address of loopback.
func from(address string, connections int) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections}}
}

func newChat(ctx context.Context, listen string, sessions []kit.Session) (*chat, error) {
	c := &chat{said: map[string]*message{}}
	for i, s := range sessions {
		p := &person{Client: kit.Client{Base: "http://" + listen, Token: s.AccessToken, HTTP: from(fmt.Sprintf("127.2.0.%d", i+1), 4)}, id: s.UserID}
		if i%roomSize == 0 {
			room, err := p.CreateRoom(ctx, map[string]any{"preset": "public_chat"})
			if err != nil {
				return nil, err
			}
			c.rooms = append(c.rooms, room)
		} else if err := p.Join(ctx, c.rooms[len(c.rooms)-1]); err != nil {
			return nil, err
		}
		p.room = c.rooms[len(c.rooms)-1]
		c.people = append(c.people, p)
	}
	ctx, c.cancel = context.WithCancel(ctx)
	for _, p := range c.people {
		c.all.Go(func() { c.speak(ctx, p) })
		c.all.Go(func() { c.listen(ctx, p) })
	}
	return c, nil
}

func (c *chat) stop() {
	c.cancel()
	c.all.Wait()
}

// failed notes what a person noticed.
func (c *chat) failed(ctx context.Context, p *person, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bad = append(c.bad, fmt.Sprintf("%s: %s: %v", p.id, what, err))
}

// speak sends a message now and then, and each again until it is acknowledged.
func (c *chat) speak(ctx context.Context, p *person) {
	for n := 0; ; n++ {
		if !pause(ctx, time.Duration((0.5+rand.Float64())*float64(sendEvery))) {
			return
		}
		txn := fmt.Sprint("m", n)
		began := time.Now()
		for {
			eventID, err := p.Send(ctx, p.room, txn, fmt.Sprintf("%s says %d", p.id, n))
			took := time.Since(began)
			if err == nil {
				c.mu.Lock()
				c.sent = append(c.sent, took)
				if m := c.message(eventID, p.room); m.at.IsZero() {
					m.at = time.Now()
				}
				c.mu.Unlock()
				break
			}
			c.failed(ctx, p, "send", err)
			if !pause(ctx, time.Second) {
				return
			}
		}
	}
}

// message is the note of an event. Called with mu.
func (c *chat) message(eventID, room string) *message {
	m := c.said[eventID]
	if m == nil {
		m = &message{room: room, seen: map[string]bool{}}
		c.said[eventID] = m
	}
	return m
}

// listen syncs all the time.
func (c *chat) listen(ctx context.Context, p *person) {
	since := ""
	for ctx.Err() == nil {
		var answer struct {
			NextBatch string `json:"next_batch"`
			Rooms     struct {
				Join map[string]struct {
					Timeline struct {
						Limited bool
						Events  []struct {
							EventID string `json:"event_id"`
							Type    string
						}
					}
				}
			}
		}
		path := kit.API + "/sync?timeout=30000&filter=" + url.QueryEscape(`{"room":{"timeline":{"limit":100}}}`)
		if since != "" {
			path += "&since=" + url.QueryEscape(since)
		}
		if _, err := p.Do(ctx, "GET", path, nil, &answer); err != nil {
			c.failed(ctx, p, "sync", err)
			pause(ctx, time.Second)
			continue
		}
		since = answer.NextBatch
		c.mu.Lock()
		for _, e := range answer.Rooms.Join[p.room].Timeline.Events {
			if e.Type == "m.room.message" {
				c.message(e.EventID, p.room).seen[p.id] = true
			}
		}
		c.mu.Unlock()
	}
}

// missing waits until everybody has seen what was said in their room.
func (c *chat) missing(ctx context.Context) error {
	end := time.Now().Add(seenAfter)
	for {
		unseen, total := 0, 0
		c.mu.Lock()
		for _, m := range c.said {
			if m.at.IsZero() || time.Since(m.at) < time.Second {
				continue // not known to be sent, or just now
			}
			total += roomSize
			unseen += roomSize - len(m.seen)
		}
		c.mu.Unlock()
		if unseen == 0 {
			say("%d deliveries, none missing", total)
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d deliveries did not come", unseen, total)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// noticed is what people noticed in a time.
type noticed struct {
	sends         int
	p50, p99, max time.Duration
	bad           []string
}

func (n noticed) String() string {
	return fmt.Sprintf("%d sends, p50 %d ms, p99 %d ms, slowest %d ms; %d failures", n.sends,
		n.p50.Milliseconds(), n.p99.Milliseconds(), n.max.Milliseconds(), len(n.bad))
}

// peek is what was noticed since the last measure.
func (c *chat) peek() noticed {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := noticed{sends: len(c.sent), bad: c.bad}
	if len(c.sent) > 0 {
		all := slices.Sorted(slices.Values(c.sent))
		n.p50, n.p99, n.max = all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
	}
	return n
}

// measure is what was noticed since the last measure.
func (c *chat) measure() noticed {
	n := c.peek()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent, c.bad = nil, nil
	return n
}

func (n noticed) judge(when string) error {
	var errs []error
	if n.sends == 0 {
		errs = append(errs, fmt.Errorf("%s nobody could send", when))
	}
	if n.p99 > slowestSend {
		errs = append(errs, fmt.Errorf("%s sends took %d ms at p99, more than %d", when, n.p99.Milliseconds(), slowestSend.Milliseconds()))
	}
	if len(n.bad) > 0 {
		errs = append(errs, fmt.Errorf("%s %d requests of people failed, the first: %s", when, len(n.bad), n.bad[0]))
	}
	return errors.Join(errs...)
}

// pause waits, and says whether it goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
