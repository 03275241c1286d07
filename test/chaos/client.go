package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stoa/test/chaos/history"
	"stoa/test/kit"
)

// Of the clients.
const (
	longPoll       = 30               // seconds that a /sync waits, of every second client
	shortPoll      = 5                // and of the others
	requestTimeout = 40 * time.Second // a client's own patience, as real ones have it
	retryPause     = 250 * time.Millisecond
	settleWithin   = 60 * time.Second // after the faults
	timelineLimit  = 50
)

// syncFilter keeps answers small: what is checked is timelines and to-device
// messages.
var syncFilter = url.QueryEscape(fmt.Sprintf(`{"presence":{"not_types":["*"]},"account_data":{"not_types":["*"]},`+
	`"room":{"timeline":{"limit":%d},"state":{"lazy_load_members":true},"ephemeral":{"not_types":["*"]},"account_data":{"not_types":["*"]}}}`, timelineLimit))

// run is everything that the clients share.
type run struct {
	population *population
	out        *history.Writer
	http       *http.Client
	url        string
	began      time.Time
	rate       float64 // operations a second of all clients

	ended      chan struct{} // closed when clients are to do nothing new
	settled    chan struct{} // closed when all that they did is done
	roomNumber map[string]int
	requests   atomic.Int64
	failures   atomic.Int64
}

func newRun(t *population, out *history.Writer, rate float64) *run {
	r := &run{population: t, out: out, url: balancerURL(), began: time.Now(), rate: rate, ended: make(chan struct{}), settled: make(chan struct{}), roomNumber: map[string]int{}}
	for i, roomID := range t.rooms {
		r.roomNumber[roomID] = i + 1
	}
	r.http = &http.Client{Timeout: requestTimeout, Transport: &http.Transport{
		MaxIdleConns: 0, MaxIdleConnsPerHost: 2 * len(t.users), IdleConnTimeout: time.Minute, DisableCompression: true,
	}}
	return r
}

// now is the time of a record.
func (r *run) now() int64 { return time.Since(r.began).Microseconds() }

// call makes one request and fills the record with its times and outcome. The
// answer's body is nil unless it was a 200, decoded into out if that is not nil.
// It does not write the record.
func (r *run) call(rec *history.Record, base, method, path string, in, out any) {
	var body []byte
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			panic(err) // our own values
		}
		body = text
	}
	rec.Begin = r.now()
	r.requests.Add(1)
	client := kit.Client{Base: base, Token: r.population.tokens[rec.Client], HTTP: r.http}
	answer, err := client.Exchange(context.Background(), method, path, nil, body)
	rec.End = r.now()
	if err == nil {
		rec.Status, rec.Instance, rec.Home = answer.Status, answer.Instance(), answer.Header.Get("X-Stoa-Home")
	}
	switch {
	case err != nil:
		rec.Status, rec.Err = 0, err.Error()
	case answer.Status != http.StatusOK:
		var refusal struct {
			Errcode string `json:"errcode"`
		}
		if json.Unmarshal(answer.Body, &refusal) == nil {
			rec.Err = refusal.Errcode
		}
		rec.Text = string(answer.Body[:min(len(answer.Body), 200)])
	case out != nil:
		if err := json.Unmarshal(answer.Body, out); err != nil {
			rec.Status, rec.Err = 0, "answer is not JSON: "+err.Error()
		}
	}
	if !rec.OK() {
		r.failures.Add(1)
	}
}

// client is one user with one device: one loop that syncs, one that acts.
type client struct {
	run *run
	n   int
	rnd *rand.Rand // of the acting loop
	dev *rand.Rand // of the syncing loop
	seq int
	// oneTimeKeys is how many one-time keys the server last said to have.
	oneTimeKeys int

	// Of the syncing loop.
	since  string
	marked map[int]bool // rooms whose last message was seen
	behind string       // a token from before to-device messages that were acknowledged since
	latest string       // the token that gave the last to-device messages
	synced atomic.Bool  // the first answer has come
}

func (r *run) newClient(n int, seed uint64) *client {
	return &client{run: r, n: n, rnd: rand.New(rand.NewPCG(seed, uint64(2*n))), dev: rand.New(rand.NewPCG(seed, uint64(2*n+1))), marked: map[int]bool{}}
}

type shownEvent struct {
	EventID string `json:"event_id"`
	Content struct {
		Body  string `json:"body"`
		Topic string `json:"topic"`
	} `json:"content"`
}

func (e shownEvent) record() history.Shown {
	return history.Shown{ID: e.EventID, Body: e.Content.Body + e.Content.Topic}
}

func records(events []shownEvent) []history.Shown {
	out := make([]history.Shown, len(events))
	for i, e := range events {
		out[i] = e.record()
	}
	return out
}

type syncAnswer struct {
	NextBatch string `json:"next_batch"`
	Rooms     struct {
		Join map[string]struct {
			Timeline struct {
				Limited   bool         `json:"limited"`
				PrevBatch string       `json:"prev_batch"`
				Events    []shownEvent `json:"events"`
			} `json:"timeline"`
		} `json:"join"`
	} `json:"rooms"`
	ToDevice struct {
		Events []shownEvent `json:"events"`
	} `json:"to_device"`
}

// sync does one /sync and writes it down. It takes the answer unless it throws
// it away; ok says that one came.
func (c *client) sync(op, since string, seconds int, drop bool) (answer syncAnswer, rec *history.Record, ok bool) {
	rec = &history.Record{Op: op, Client: c.n, Since: since, Dropped: drop}
	path := fmt.Sprintf("/_matrix/client/v3/sync?timeout=%d&filter=%s", seconds*1000, syncFilter)
	if since != "" {
		path += "&since=" + url.QueryEscape(since)
	}
	c.run.call(rec, c.run.url, http.MethodGet, path, nil, &answer)
	if rec.OK() {
		rec.Next = answer.NextBatch
		for roomID, room := range answer.Rooms.Join {
			if len(room.Timeline.Events) > 0 || room.Timeline.Limited {
				rec.Timelines = append(rec.Timelines, history.Timeline{Room: c.run.roomNumber[roomID],
					Limited: room.Timeline.Limited, Events: records(room.Timeline.Events)})
			}
		}
		for _, e := range answer.ToDevice.Events {
			rec.ToDevice = append(rec.ToDevice, e.Content.Body)
		}
	}
	c.run.out.Add(rec)
	return answer, rec, rec.OK()
}

// follow syncs until all is settled and the last message of each room came.
func (c *client) follow() {
	poll := longPoll
	if c.n%2 == 1 {
		poll = shortPoll
	}
	var deadline time.Time
	for {
		drop := c.since != "" && c.dev.IntN(40) == 0
		answer, rec, ok := c.sync(history.Sync, c.since, poll, drop)
		switch {
		case !ok:
			time.Sleep(retryPause) // as a client that was told to come back
		case !drop:
			c.take(answer, rec)
		}
		if len(c.marked) == len(c.run.population.roomsOf[c.n]) {
			break
		}
		select {
		case <-c.run.settled:
			if deadline.IsZero() {
				deadline = time.Now().Add(settleWithin)
			} else if time.Now().After(deadline) {
				return // the checker will say what is missing
			}
		default:
		}
	}
	for range 20 { // what is left of the to-device messages
		answer, rec, ok := c.sync(history.Sync, c.since, 0, false)
		if !ok {
			continue
		}
		c.take(answer, rec)
		if len(rec.ToDevice) == 0 && len(rec.Timelines) == 0 {
			break
		}
	}
	if c.behind != "" {
		c.sync(history.Resync, c.behind, 0, false)
	}
}

// take goes on from an answer, and fills the gap before a limited timeline.
func (c *client) take(answer syncAnswer, rec *history.Record) {
	if c.latest != "" && rec.Since != c.latest {
		c.behind = c.latest // a request has acknowledged its messages
	}
	if len(rec.ToDevice) > 0 {
		c.latest = rec.Since
	}
	for _, timeline := range rec.Timelines {
		for _, e := range timeline.Events {
			if e.Body == endOf(timeline.Room) {
				c.marked[timeline.Room] = true
			}
		}
	}
	for roomID, room := range answer.Rooms.Join {
		if room.Timeline.Limited && c.since != "" && len(room.Timeline.Events) > 0 {
			c.messages(history.Fill, c.run.roomNumber[roomID], room.Timeline.PrevBatch, timelineLimit, room.Timeline.Events[0].EventID)
		}
	}
	c.since = rec.Next
	c.synced.Store(true)
}

// messages reads backwards. before is the event that a Fill stands before.
func (c *client) messages(op string, room int, from string, limit int, before string) {
	rec := &history.Record{Op: op, Client: c.n, Room: room, EventID: before}
	path := fmt.Sprintf("/_matrix/client/v3/rooms/%s/messages?dir=b&limit=%d", url.PathEscape(c.run.population.rooms[room-1]), limit)
	if from != "" {
		path += "&from=" + url.QueryEscape(from)
	}
	var page struct {
		Chunk []shownEvent `json:"chunk"`
	}
	c.run.call(rec, c.run.url, http.MethodGet, path, nil, &page)
	rec.Events = records(page.Chunk)
	c.run.out.Add(rec)
}

// endOf is the last message of a room.
func endOf(room int) string { return fmt.Sprintf("end-%d", room) }

// hotClients are those whose keys are claimed.
const hotClients = 20

// act does one thing after another, at random moments.
func (c *client) act(ctx context.Context) {
	pause := func() time.Duration {
		mean := float64(len(c.run.population.users)) / c.run.rate
		return time.Duration(c.rnd.ExpFloat64() * mean * float64(time.Second))
	}
	if c.n < hotClients {
		c.upload(50)
	}
	for {
		select {
		case <-c.run.ended:
			return
		case <-ctx.Done():
			return
		case <-time.After(pause()):
		}
		if !c.synced.Load() {
			continue
		}
		room := c.run.population.roomsOf[c.n][c.rnd.IntN(len(c.run.population.roomsOf[c.n]))]
		what := c.rnd.IntN(100)
		if c.n < hotClients && what < 40 && c.oneTimeKeys < 60 {
			c.upload(10)
			continue
		}
		switch {
		case what < 50:
			eventID := c.send(room, c.text("m"))
			if eventID != "" && c.rnd.IntN(3) == 0 {
				c.readOwn(room, eventID)
			}
		case what < 58:
			c.topic(room)
		case what < 78:
			c.toDevice()
		case what < 88:
			c.claim(c.rnd.IntN(min(hotClients, len(c.run.population.users))))
		default:
			c.messages(history.Messages, room, "", 10, "")
		}
	}
}

// text is unique in the run.
func (c *client) text(kind string) string {
	c.seq++
	return fmt.Sprintf("%s-%d-%d", kind, c.n, c.seq)
}

// until repeats a request, as a client does, until it is answered with a 200.
func (c *client) until(once func(attempt int) bool) bool {
	var deadline time.Time
	for attempt := 1; ; attempt++ {
		if once(attempt) {
			return true
		}
		select {
		case <-c.run.ended:
			if deadline.IsZero() {
				deadline = time.Now().Add(settleWithin)
			} else if time.Now().After(deadline) {
				return false
			}
		default:
		}
		time.Sleep(retryPause)
	}
}

func (c *client) send(room int, body string) (eventID string) {
	path := "/_matrix/client/v3/rooms/" + url.PathEscape(c.run.population.rooms[room-1]) + "/send/m.room.message/" + body
	c.until(func(attempt int) bool {
		rec := &history.Record{Op: history.Send, Client: c.n, Room: room, Txn: body, Body: body, Attempt: attempt}
		var answer struct {
			EventID string `json:"event_id"`
		}
		c.run.call(rec, c.run.url, http.MethodPut, path, map[string]string{"msgtype": "m.text", "body": body}, &answer)
		rec.EventID, eventID = answer.EventID, answer.EventID
		c.run.out.Add(rec)
		return rec.OK()
	})
	return eventID
}

// topic sets the topic of a room. Without a transaction ID each attempt has a
// text of its own.
func (c *client) topic(room int) {
	text := c.text("t")
	path := "/_matrix/client/v3/rooms/" + url.PathEscape(c.run.population.rooms[room-1]) + "/state/m.room.topic/"
	c.until(func(attempt int) bool {
		body := fmt.Sprintf("%s-%d", text, attempt)
		rec := &history.Record{Op: history.State, Client: c.n, Room: room, Txn: text, Body: body, Attempt: attempt}
		var answer struct {
			EventID string `json:"event_id"`
		}
		c.run.call(rec, c.run.url, http.MethodPut, path, map[string]string{"topic": body}, &answer)
		rec.EventID = answer.EventID
		c.run.out.Add(rec)
		return rec.OK()
	})
}

// readOwn looks for what was just acknowledged.
func (c *client) readOwn(room int, eventID string) {
	if c.rnd.IntN(2) == 0 {
		c.messages(history.Messages, room, "", 10, "")
		return
	}
	rec := &history.Record{Op: history.Event, Client: c.n, Room: room, EventID: eventID}
	path := "/_matrix/client/v3/rooms/" + url.PathEscape(c.run.population.rooms[room-1]) + "/event/" + url.PathEscape(eventID)
	c.run.call(rec, c.run.url, http.MethodGet, path, nil, nil)
	c.run.out.Add(rec)
}

func (c *client) toDevice() {
	to := (c.n + 1 + c.rnd.IntN(4)) % len(c.run.population.users)
	body := c.text("d")
	content := map[string]any{"messages": map[string]any{c.run.population.users[to]: map[string]any{deviceID: map[string]string{"body": body}}}}
	c.until(func(attempt int) bool {
		rec := &history.Record{Op: history.ToDevice, Client: c.n, To: to, Txn: body, Body: body, Attempt: attempt}
		c.run.call(rec, c.run.url, http.MethodPut, "/_matrix/client/v3/sendToDevice/m.chaos/"+body, content, nil)
		c.run.out.Add(rec)
		return rec.OK()
	})
}

const keyAlgorithm = "signed_curve25519"

// upload repeats the same keys until they are taken, as clients do.
func (c *client) upload(n int) {
	c.seq++
	txn := fmt.Sprintf("k-%d-%d", c.n, c.seq)
	keys, list := map[string]any{}, []string(nil)
	for i := range n {
		name, key := fmt.Sprintf("%s:%d_%d", keyAlgorithm, c.seq, i), fmt.Sprintf("%s-%d", txn, i)
		keys[name] = map[string]any{"key": key, "signatures": map[string]any{}}
		list = append(list, name+" "+key)
	}
	c.until(func(attempt int) bool {
		rec := &history.Record{Op: history.Upload, Client: c.n, Txn: txn, Attempt: attempt, Keys: list}
		var answer struct {
			Counts map[string]int `json:"one_time_key_counts"`
		}
		c.run.call(rec, c.run.url, http.MethodPost, "/_matrix/client/v3/keys/upload", map[string]any{"one_time_keys": keys}, &answer)
		c.oneTimeKeys = answer.Counts[keyAlgorithm]
		c.run.out.Add(rec)
		return rec.OK()
	})
}

// claim asks for one key of another client, once: an answer that stays out may
// have used a key up.
func (c *client) claim(of int) {
	user := c.run.population.users[of]
	rec := &history.Record{Op: history.Claim, Client: c.n, To: of}
	var answer struct {
		Keys map[string]map[string]map[string]struct {
			Key string `json:"key"`
		} `json:"one_time_keys"`
	}
	c.run.call(rec, c.run.url, http.MethodPost, "/_matrix/client/v3/keys/claim",
		map[string]any{"one_time_keys": map[string]any{user: map[string]string{deviceID: keyAlgorithm}}}, &answer)
	for name, key := range answer.Keys[user][deviceID] {
		rec.Keys = append(rec.Keys, name+" "+key.Key)
	}
	c.run.out.Add(rec)
}

// storm lets many claim the keys of one at the same moment, and many set the
// topic of one room.
func (r *run) storm(clients []*client, rnd *rand.Rand) {
	of := rnd.IntN(min(hotClients, len(clients)))
	var all sync.WaitGroup
	for _, n := range rnd.Perm(len(clients))[:min(8, len(clients))] {
		all.Go(func() { clients[n].claim(of) })
	}
	all.Wait()
}

// finish reads everything from an instance itself: all rooms and their topics.
func (r *run) finish(base, name string) error {
	for i, roomID := range r.population.rooms {
		member := r.population.members[i][0]
		all := &history.Record{Op: history.Final, Client: member, Room: i + 1, Target: name, Begin: r.now()}
		for from := ""; ; {
			rec := &history.Record{Client: member}
			path := "/_matrix/client/v3/rooms/" + url.PathEscape(roomID) + "/messages?dir=b&limit=500"
			if from != "" {
				path += "&from=" + url.QueryEscape(from)
			}
			var page struct {
				Chunk []shownEvent `json:"chunk"`
				End   string       `json:"end"`
			}
			r.call(rec, base, http.MethodGet, path, nil, &page)
			if !rec.OK() {
				return fmt.Errorf("read room %d from instance %s: %d %s", i+1, name, rec.Status, rec.Err)
			}
			all.Events = append(all.Events, records(page.Chunk)...)
			if from = page.End; from == "" {
				break
			}
		}
		for a, b := 0, len(all.Events)-1; a < b; a, b = a+1, b-1 {
			all.Events[a], all.Events[b] = all.Events[b], all.Events[a]
		}
		all.Status, all.End = http.StatusOK, r.now()
		r.out.Add(all)
		topic := &history.Record{Op: history.Topic, Client: member, Room: i + 1, Target: name}
		var content struct {
			Topic string `json:"topic"`
		}
		r.call(topic, base, http.MethodGet, "/_matrix/client/v3/rooms/"+url.PathEscape(roomID)+"/state/m.room.topic/", nil, &content)
		topic.Body = content.Topic
		if !topic.OK() && !strings.Contains(topic.Err, "M_NOT_FOUND") {
			return fmt.Errorf("read the topic of room %d from instance %s: %d %s", i+1, name, topic.Status, topic.Err)
		}
		r.out.Add(topic)
	}
	return nil
}
