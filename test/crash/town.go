package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	senders = 8
	rooms   = 4
)

// town is the users and rooms of one database, and the ledger of what they did.
type town struct {
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
func settle(srv *server) (*town, error) {
	t := &town{url: "http://" + srv.addr, client: &http.Client{Timeout: 20 * time.Second}, byBody: map[string]*message{}, complete: map[string]bool{}}
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
		var answer struct {
			RoomID string `json:"room_id"`
		}
		if err := t.call(t.people[0].token, "POST", "/_matrix/client/v3/createRoom", map[string]string{"preset": "public_chat"}, &answer); err != nil {
			return nil, err
		}
		t.rooms = append(t.rooms, &meeting{id: answer.RoomID})
	}
	for i, p := range t.people {
		p.room = t.rooms[i%rooms]
		if i == 0 {
			continue
		}
		if err := t.call(p.token, "POST", "/_matrix/client/v3/join/"+url.PathEscape(p.room.id), struct{}{}, nil); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *town) register(name string) (token string, err error) {
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	err = t.call("", "POST", "/_matrix/client/v3/register", map[string]any{
		"username": name, "password": "a long password", "auth": map[string]string{"type": "m.login.dummy"},
	}, &answer)
	return answer.AccessToken, err
}

// build makes one room after another until ctx ends or an answer stays out.
func (t *town) build(ctx context.Context) {
	for ctx.Err() == nil {
		var answer struct {
			RoomID string `json:"room_id"`
		}
		if err := t.call(t.builder, "POST", "/_matrix/client/v3/createRoom", map[string]string{"name": "A name", "topic": "A topic"}, &answer); err != nil {
			return
		}
		t.built = append(t.built, answer.RoomID)
	}
}

// refused is an answer that is not 200.
type refused struct {
	status int
	body   string
}

func (e refused) Error() string { return fmt.Sprintf("%d %s", e.status, e.body) }

func (t *town) call(token, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, t.url+path, body)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := t.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w: %w", method, path, errGone, err)
	}
	text, err := io.ReadAll(res.Body)
	if closing := res.Body.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w: %w", method, path, errGone, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %w", method, path, refused{res.StatusCode, string(text)})
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (t *town) put(m *message) error {
	var answer struct {
		EventID string `json:"event_id"`
	}
	path := "/_matrix/client/v3/rooms/" + url.PathEscape(m.room.id) + "/send/m.room.message/" + m.txn
	err := t.call(t.people[m.person].token, "PUT", path, map[string]string{"msgtype": "m.text", "body": m.body}, &answer)
	if err != nil {
		return err
	}
	if m.eventID != "" && m.eventID != answer.EventID {
		return fmt.Errorf("transaction %s gave the event %s and, repeated, %s", m.txn, m.eventID, answer.EventID)
	}
	m.eventID = answer.EventID
	return nil
}

// round lets everyone send, kills at a random moment, starts again and checks.
func (t *town) round(srv *server, db *postgres, killDatabase bool, rnd *rand.Rand, sum *totals) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var sending sync.WaitGroup
	for i := range t.people {
		sending.Go(func() { t.send(ctx, i, killDatabase) })
	}
	sending.Go(func() { t.build(ctx) })
	time.Sleep(time.Duration(20+rnd.IntN(500)) * time.Millisecond) // the random moment
	if killDatabase {
		db.kill()
		if err := db.start(); err != nil {
			return err
		}
		// The server must come back by itself.
		if err := t.awaitSending(startWithin); err != nil {
			return err
		}
		stop()
		sending.Wait()
	} else {
		srv.kill()
		stop()
		sending.Wait()
		took, err := srv.start()
		if err != nil {
			return err
		}
		sum.slowestStart = max(sum.slowestStart, took)
	}
	return t.check(srv, rnd, sum)
}

// send sends one message after another until ctx ends. A message without an
// answer is sent again, in this round or the next one.
func (t *town) send(ctx context.Context, i int, keepOn bool) {
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
func (t *town) awaitSending(limit time.Duration) error {
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
