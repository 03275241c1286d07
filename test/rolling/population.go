package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stoa/test/kit"
)

// population is the users of the cluster, the rooms that they are in, and the ledger of
// what they asked for.
type population struct {
	address string
	pause   time.Duration
	client  *http.Client
	users   []*resident
	rooms   []string // all users are in all of them
	seenAt  map[string]*atomic.Int64

	mu     sync.Mutex // guards all below
	now    *phase
	phases []*phase
	sent   map[string]string // room ID by event ID, of sends that were acknowledged
}

// phase is a part of the run.
type phase struct {
	name                   string
	sends, syncs           []time.Duration // that were answered with 200; of syncs only the count matters
	failures               []string
	syncFailed, sendFailed int
}

// resident is one user.
type resident struct {
	name, token string
	seen        map[string]int // by event ID; its own goroutine's until the end
}

const rooms = 4

// as is the client of somebody.
func (t *population) as(token string) *kit.Client {
	// net/http would send a request again by itself where it may.
	return &kit.Client{Base: t.address, Token: token, HTTP: t.client, Once: true}
}

// request does one request, once. Anything but 200 is an error.
func (t *population) request(ctx context.Context, token, method, path string, body, into any) error {
	instance, err := t.as(token).Do(ctx, method, kit.API+path, body, into)
	if seen := t.seenAt[instance]; seen != nil && err == nil {
		seen.Add(1)
	}
	return err
}

// settle makes the users and their rooms.
func settle(address string, users int, pause time.Duration) (*population, error) {
	t := &population{address: address, pause: pause, sent: map[string]string{}, seenAt: map[string]*atomic.Int64{},
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 2 * users}}}
	for _, name := range names {
		t.seenAt[name] = &atomic.Int64{}
	}
	ctx := context.Background()
	for i := range users {
		u := &resident{name: fmt.Sprintf("user%d", i), seen: map[string]int{}}
		session, err := t.as("").Register(ctx, u.name)
		if err != nil {
			return nil, err
		}
		u.token = session.AccessToken
		t.users = append(t.users, u)
	}
	for i := range rooms {
		roomID, err := t.as(t.users[i%users].token).CreateRoom(ctx, map[string]string{"preset": "public_chat"})
		if err != nil {
			return nil, err
		}
		t.rooms = append(t.rooms, roomID)
		for _, u := range t.users {
			if err := t.as(u.token).Join(ctx, roomID); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// enter begins a phase.
func (t *population) enter(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = &phase{name: name}
	t.phases = append(t.phases, t.now)
}

// phase is a phase in which nothing happens but load.
func (t *population) phase(name string, lasts time.Duration) error {
	t.enter(name)
	for _, in := range names {
		if err := t.await(in); err != nil {
			return err
		}
	}
	time.Sleep(lasts) // this is what it is for
	return nil
}

// await waits until users are served by an instance: some requests, so that it is
// no accident.
func (t *population) await(instance string) error {
	seen := t.seenAt[instance]
	from := seen.Load()
	deadline := time.Now().Add(kit.StartWithin)
	for seen.Load() < from+20 {
		if time.Now().After(deadline) {
			return fmt.Errorf("the balancer sends nobody to instance %s", instance)
		}
		time.Sleep(10 * time.Millisecond) // nothing announces it
	}
	return nil
}

// begin has all users send and sync until the returned function is called, and
// that waits until everybody has seen what there is.
func (t *population) begin() (stop func()) {
	t.enter("begin")
	sending, endSends := context.WithCancel(context.Background())
	syncing, endSyncs := context.WithCancel(context.Background())
	var senders, readers sync.WaitGroup
	for _, u := range t.users {
		senders.Go(func() { t.send(sending, u) })
		readers.Go(func() { t.sync(syncing, u) })
	}
	return func() {
		endSends()
		senders.Wait()
		// A message after the last in each room ends the waiting for news.
		t.enter("end")
		for _, room := range t.rooms {
			t.sendOne(t.users[0], room, theEnd)
		}
		readers.Wait()
		endSyncs()
	}
}

func (t *population) send(ctx context.Context, u *resident) {
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rand.N(t.pause)):
		}
		t.sendOne(u, t.rooms[rand.N(len(t.rooms))], fmt.Sprintf("%s-%d", u.name, n))
	}
}

func (t *population) sendOne(u *resident, room, text string) {
	t.mu.Lock()
	in := t.now
	t.mu.Unlock()
	var answer struct {
		EventID string `json:"event_id"`
	}
	began := time.Now()
	err := t.request(context.Background(), u.token, http.MethodPut,
		strings.TrimPrefix(kit.SendPath(room, text), kit.API), kit.Message(text), &answer)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		in.sendFailed++
		in.failures = append(in.failures, err.Error())
		return
	}
	in.sends = append(in.sends, time.Since(began))
	t.sent[answer.EventID] = room
}

type syncAnswer struct {
	NextBatch string `json:"next_batch"`
	Rooms     struct {
		Join map[string]struct {
			Timeline struct {
				Limited bool `json:"limited"`
				Events  []struct {
					EventID string `json:"event_id"`
					Content struct {
						Body string `json:"body"`
					} `json:"content"`
				} `json:"events"`
			} `json:"timeline"`
		} `json:"join"`
	} `json:"rooms"`
}

// filter makes pages of the timeline so long that none has a gap in it.
const filter = `{"room":{"timeline":{"limit":1000}}}`

// theEnd is the last message in each room.
const theEnd = "the end"

// sync reads until the end of each room was seen.
func (t *population) sync(ctx context.Context, u *resident) {
	since, ends := "", map[string]bool{}
	for len(ends) < len(t.rooms) && ctx.Err() == nil {
		t.mu.Lock()
		in := t.now
		t.mu.Unlock()
		var answer syncAnswer
		began := time.Now()
		path := "/sync?timeout=20000&filter=" + url.QueryEscape(filter)
		if since != "" {
			path += "&since=" + url.QueryEscape(since)
		}
		err := t.request(ctx, u.token, http.MethodGet, path, nil, &answer)
		t.mu.Lock()
		if err != nil {
			in.syncFailed++
			in.failures = append(in.failures, err.Error())
			t.mu.Unlock()
			time.Sleep(time.Second) // as clients do
			continue
		}
		in.syncs = append(in.syncs, time.Since(began))
		t.mu.Unlock()
		since = answer.NextBatch
		for id, room := range answer.Rooms.Join {
			for _, e := range room.Timeline.Events {
				u.seen[e.EventID]++
				if e.Content.Body == theEnd {
					ends[id] = true
				}
			}
		}
	}
}

// report prints what the phases were like. A failure in one is an error.
func (t *population) report() error {
	var failed []string
	sends, syncs := 0, 0
	for _, p := range t.phases {
		if len(p.sends)+len(p.syncs)+len(p.failures) == 0 {
			continue
		}
		sends, syncs = sends+len(p.sends), syncs+len(p.syncs)
		slices.Sort(p.sends)
		fmt.Printf("rolling: %-26s %5d sends (p50 %d ms, p99 %d ms, slowest %d ms), %5d syncs, %d sends and %d syncs failed\n", p.name+":", len(p.sends),
			at(p.sends, 0.5), at(p.sends, 0.99), at(p.sends, 1), len(p.syncs), p.sendFailed, p.syncFailed)
		failed = append(failed, p.failures...)
	}
	fmt.Printf("rolling: %d sends and %d syncs in all, %d failed\n", sends, syncs, len(failed))
	if len(failed) > 0 {
		return fmt.Errorf("%d requests failed, the first of them:\n%s", len(failed), strings.Join(failed[:min(10, len(failed))], "\n"))
	}
	return nil
}

// at is a quantile of a sorted list, in ms.
func at(sorted []time.Duration, q float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Milliseconds()
}

// check compares what was acknowledged with what everybody has seen.
func (t *population) check() error {
	var errs []error
	for _, u := range t.users {
		missing, twice := 0, 0
		for id := range t.sent {
			switch u.seen[id] {
			case 0:
				missing++
			case 1:
			default:
				twice++
			}
		}
		if missing+twice > 0 {
			errs = append(errs, fmt.Errorf("%s has not seen %d of %d messages, and %d more than once", u.name, missing, len(t.sent), twice))
		}
	}
	return errors.Join(errs...)
}
