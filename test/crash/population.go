package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"stoa/test/kit"
)

const (
	senders = 8
	rooms   = 4
)

// population is the users and rooms of one database, and the ledger of what they did.
type population struct {
	url    string
	client *http.Client
	people []*person
	rooms  []*meeting
	byBody map[string]*message

	builder  string          // the token of the person who makes rooms
	built    []string        // rooms that were acknowledged in the round
	complete map[string]bool // rooms that were checked
}

// person sends one message at a time and repeats it until it is acknowledged,
// as clients do; so the order of their messages in a room is known.
type person struct {
	token   string
	room    *meeting
	next    int
	pending *message // sent, outcome unknown
	sent    []*message
}

// meeting is a room.
type meeting struct {
	id       string
	lastSeen string // the newest event that was checked
}

// message is one line of the ledger.
type message struct {
	person  int
	room    *meeting
	number  int
	body    string
	txn     string
	eventID string // empty: not acknowledged
	seen    string // the event that the room shows for it
}

// settle registers the people and has them meet.
func settle(srv *kit.Server) (*population, error) {
	t := &population{url: srv.URL(), client: &http.Client{Timeout: 20 * time.Second}, byBody: map[string]*message{}, complete: map[string]bool{}}
	for i := range senders {
		token, err := t.register("p" + strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		t.people = append(t.people, &person{token: token})
	}
	var err error
	if t.builder, err = t.register("builder"); err != nil {
		return nil, err
	}
	for range rooms {
		roomID, err := t.as(t.people[0].token).CreateRoom(context.Background(), map[string]string{"preset": "public_chat"})
		if err != nil {
			return nil, err
		}
		t.rooms = append(t.rooms, &meeting{id: roomID})
	}
	for i, p := range t.people {
		p.room = t.rooms[i%rooms]
		if i == 0 {
			continue
		}
		if err := t.as(p.token).Join(context.Background(), p.room.id); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *population) register(name string) (token string, err error) {
	session, err := t.as("").Register(context.Background(), name)
	return session.AccessToken, err
}

// build makes one room after another until ctx ends or an answer stays out.
func (t *population) build(ctx context.Context) {
	for ctx.Err() == nil {
		roomID, err := t.as(t.builder).CreateRoom(context.Background(), map[string]string{"name": "A name", "topic": "A topic"})
		if err != nil {
			return
		}
		t.built = append(t.built, roomID)
	}
}

// call does one request. Any answer but 200 is an error.
func (t *population) call(token, method, path string, in, out any) error {
	_, err := t.as(token).Do(context.Background(), method, path, in, out)
	return err
}

// as is the client of somebody.
func (t *population) as(token string) *kit.Client {
	return &kit.Client{Base: t.url, Token: token, HTTP: t.client}
}

func (t *population) put(m *message) error {
	eventID, err := t.as(t.people[m.person].token).Send(context.Background(), m.room.id, m.txn, m.body)
	if err != nil {
		return err
	}
	if m.eventID != "" && m.eventID != eventID {
		return fmt.Errorf("transaction %s gave the event %s and, repeated, %s", m.txn, m.eventID, eventID)
	}
	m.eventID = eventID
	return nil
}

// round lets everyone send, kills at a random moment, starts again and checks.
func (t *population) round(srv *kit.Server, db *kit.Postgres, killDatabase bool, rnd *rand.Rand, sum *totals) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var sending sync.WaitGroup
	for i := range t.people {
		sending.Go(func() { t.send(ctx, i, killDatabase) })
	}
	sending.Go(func() { t.build(ctx) })
	time.Sleep(time.Duration(20+rnd.IntN(500)) * time.Millisecond) // the random moment
	if killDatabase {
		db.Kill()
		if err := db.Start(); err != nil {
			return err
		}
		// The server must come back by itself.
		if err := t.awaitSending(kit.StartWithin); err != nil {
			return err
		}
		stop()
		sending.Wait()
	} else {
		srv.Kill()
		stop()
		sending.Wait()
		began := time.Now()
		if err := srv.Start(); err != nil {
			return err
		}
		sum.slowestStart = max(sum.slowestStart, time.Since(began))
	}
	return t.check(srv, rnd, sum)
}

// send sends one message after another until ctx ends. A message without an
// answer is sent again, in this round or the next one.
func (t *population) send(ctx context.Context, i int, keepOn bool) {
	p := t.people[i]
	for ctx.Err() == nil {
		m := p.pending
		if m == nil {
			name := fmt.Sprintf("%d-%d", i, p.next)
			m = &message{person: i, room: p.room, number: p.next, body: "message " + name, txn: "t" + name}
			p.next++
			p.pending = m
			p.sent = append(p.sent, m)
		}
		if err := t.put(m); err != nil {
			if !keepOn {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // as a client that is told to come back
			}
			continue
		}
		p.pending = nil
	}
}

// awaitSending waits until the server commits again after its database came back.
func (t *population) awaitSending(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		err := t.call(t.people[0].token, "PUT", "/_matrix/client/v3/rooms/"+url.PathEscape(t.rooms[0].id)+"/state/m.room.topic/", map[string]string{"topic": time.Now().String()}, nil)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v after its database came back the server still answers: %w", limit, err)
		}
		time.Sleep(20 * time.Millisecond) // nothing announces it
	}
}
