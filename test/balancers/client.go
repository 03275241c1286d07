package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// clientAddr is where clients come from: an address that is no trusted proxy.
const clientAddr = "127.0.0.3"

// person is a user with a client of their own.
type person struct {
	base, user, token string
	http              *http.Client
}

// newPerson makes a client without an account. Without reuse each request has a
// connection of its own.
func newPerson(b *balancer, reuse bool) *person {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientAddr)}}
	return &person{base: b.url, http: &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: !reuse}}}
}

// refusal is an answer other than 200.
type refusal struct {
	status   int
	instance string
	text     string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%d from instance %q: %s", r.status, r.instance, r.text)
}

// ask sends a request and gives the instance that answered. Any answer but 200 is
// an error.
func (p *person) ask(ctx context.Context, method, path string, in, out any) (instance string, err error) {
	return p.askWith(ctx, nil, method, path, in, out)
}

func (p *person) askWith(ctx context.Context, header http.Header, method, path string, in, out any) (instance string, err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return "", err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	res, err := p.http.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	instance = res.Header.Get("X-Stoa-Instance")
	if res.StatusCode != http.StatusOK {
		return instance, fmt.Errorf("%s %s: %w", method, path, &refusal{res.StatusCode, instance, string(text[:min(200, len(text))])})
	}
	if out == nil {
		return instance, nil
	}
	return instance, json.Unmarshal(text, out)
}

const password = "a password for tests 7"

// register makes an account and logs in to it with its password. The header goes
// with the login.
func register(ctx context.Context, b *balancer, localpart string, header http.Header) (*person, error) {
	p := newPerson(b, true)
	if _, err := p.ask(ctx, "POST", "/_matrix/client/v3/register", map[string]any{
		"username": localpart, "password": password, "inhibit_login": true, "auth": map[string]any{"type": "m.login.dummy"},
	}, nil); err != nil {
		return nil, err
	}
	return p, p.login(ctx, localpart, header)
}

// login logs in with a new device.
func (p *person) login(ctx context.Context, localpart string, header http.Header) error {
	var session struct {
		UserID      string `json:"user_id"`
		AccessToken string `json:"access_token"`
	}
	if _, err := p.askWith(ctx, header, "POST", "/_matrix/client/v3/login", map[string]any{
		"type": "m.login.password", "identifier": map[string]any{"type": "m.id.user", "user": localpart}, "password": password,
	}, &session); err != nil {
		return err
	}
	p.user, p.token = session.UserID, session.AccessToken
	return nil
}

// as is the same person with another client.
func (p *person) as(b *balancer, reuse bool) *person {
	other := newPerson(b, reuse)
	other.user, other.token = p.user, p.token
	return other
}

func (p *person) createRoom(ctx context.Context, invite ...string) (string, error) {
	var room struct {
		RoomID string `json:"room_id"`
	}
	_, err := p.ask(ctx, "POST", "/_matrix/client/v3/createRoom", map[string]any{"preset": "private_chat", "invite": invite}, &room)
	return room.RoomID, err
}

func (p *person) send(ctx context.Context, room, txn, text string) (string, error) {
	var sent struct {
		EventID string `json:"event_id"`
	}
	_, err := p.ask(ctx, "PUT", sendPath(room, txn), message(text), &sent)
	return sent.EventID, err
}

func sendPath(room, txn string) string {
	return "/_matrix/client/v3/rooms/" + url.PathEscape(room) + "/send/m.room.message/" + url.PathEscape(txn)
}

func message(text string) map[string]any { return map[string]any{"msgtype": "m.text", "body": text} }

// event is what is read of one.
type event struct {
	EventID string `json:"event_id"`
	Type    string `json:"type"`
	Content struct {
		Body string `json:"body"`
	} `json:"content"`
}

// news is what is read of a sync.
type news struct {
	NextBatch string `json:"next_batch"`
	Rooms     struct {
		Join map[string]struct {
			Timeline struct {
				Events  []event `json:"events"`
				Limited bool    `json:"limited"`
			} `json:"timeline"`
		} `json:"join"`
	} `json:"rooms"`
}

func (p *person) sync(ctx context.Context, since string, timeout time.Duration) (news, string, error) {
	query := url.Values{"timeout": {fmt.Sprint(timeout.Milliseconds())}}
	if since != "" {
		query.Set("since", since)
	}
	var n news
	instance, err := p.ask(ctx, "GET", "/_matrix/client/v3/sync?"+query.Encode(), nil, &n)
	return n, instance, err
}

// history gives all messages of a room, the oldest first.
func (p *person) history(ctx context.Context, room string) ([]event, error) {
	var all []event
	query := url.Values{"dir": {"f"}, "limit": {"500"}}
	for {
		var page struct {
			Chunk []event `json:"chunk"`
			End   string  `json:"end"`
		}
		if _, err := p.ask(ctx, "GET", "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/messages?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		for _, e := range page.Chunk {
			if e.Type == "m.room.message" {
				all = append(all, e)
			}
		}
		if page.End == "" {
			return all, nil
		}
		query.Set("from", page.End)
	}
}
