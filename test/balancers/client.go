package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"stoa/test/kit"
)

// clientAddr is where clients come from: an address that is no trusted proxy.
const clientAddr = "127.0.0.3"

// person is a user with a client of their own.
type person struct {
	kit.Client
	user string
}

// newPerson makes a client without an account. Without reuse each request has a
// connection of its own.
func newPerson(b *balancer, reuse bool) *person {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientAddr)}}
	return &person{Client: kit.Client{Base: b.url, HTTP: &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: !reuse}}}}
}

// register makes an account and logs in to it with its password. The header goes
// with the login.
func register(ctx context.Context, b *balancer, localpart string, header http.Header) (*person, error) {
	p := newPerson(b, true)
	if _, err := p.Do(ctx, "POST", kit.API+"/register", map[string]any{
		"username": localpart, "password": kit.Password, "inhibit_login": true, "auth": map[string]any{"type": "m.login.dummy"},
	}, nil); err != nil {
		return nil, err
	}
	return p, p.login(ctx, localpart, header)
}

// login logs in with a new device.
func (p *person) login(ctx context.Context, localpart string, header http.Header) error {
	session, err := p.Login(ctx, localpart, header)
	if err != nil {
		return err
	}
	p.user, p.Token = session.UserID, session.AccessToken
	return nil
}

// as is the same person with another client.
func (p *person) as(b *balancer, reuse bool) *person {
	other := newPerson(b, reuse)
	other.user, other.Token = p.user, p.Token
	return other
}

func (p *person) createRoom(ctx context.Context, invite ...string) (string, error) {
	return p.CreateRoom(ctx, map[string]any{"preset": "private_chat", "invite": invite})
}

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
	instance, err := p.Do(ctx, "GET", "/_matrix/client/v3/sync?"+query.Encode(), nil, &n)
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
		if _, err := p.Do(ctx, "GET", "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/messages?"+query.Encode(), nil, &page); err != nil {
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
