package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stoa/test/kit"
)

// plan is what the attackers are told.
type plan struct {
	Address  string
	Kinds    []string
	Accounts []kit.Session
	Victim   string // a user who is invited and written to
	Length   time.Duration
}

// addresses is how many the attackers come from.
const addresses = 40

// attacker is one account and the attackers' addresses.
type attacker struct {
	*kit.Client
	kit.Session
	plan  *plan
	stats *stats
}

// stats count what came of one kind of attack.
type stats struct{ good, limited, refused, failed, gone atomic.Int64 }

func (s *stats) String() string {
	return fmt.Sprintf("%d done, %d limited (429), %d refused (4xx), %d failed (5xx), %d connections ended",
		s.good.Load(), s.limited.Load(), s.refused.Load(), s.failed.Load(), s.gone.Load())
}

// attacks are the kinds, each with the number of accounts that it takes, "" for those without an account.
var attacks = map[string]func(ctx context.Context, all []*attacker){
	"bodies":   bodies,
	"halves":   halves,
	"answers":  answers,
	"states":   states,
	"floods":   floods,
	"invites":  invites,
	"rules":    rules,
	"searches": searches,
}

func kindNames() []string { return slices.Sorted(maps.Keys(attacks)) }

// attack reads a plan and carries it out. A request that is refused is no failure: that is what is hoped for.
func attack(ctx context.Context, in io.Reader) error {
	var p plan
	if err := json.NewDecoder(in).Decode(&p); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.Length)
	defer cancel()
	var all sync.WaitGroup
	counts := map[string]*stats{}
	for _, kind := range p.Kinds {
		counts[kind] = &stats{}
		all.Go(func() { attacks[kind](ctx, p.attackers(counts[kind])) })
	}
	all.Wait()
	for _, kind := range p.Kinds {
		say("  attack %-9s %s", kind+":", counts[kind])
	}
	return nil
}

// attackers are the accounts of a plan, with the counts of one kind of attack.
func (p *plan) attackers(s *stats) (list []*attacker) {
	for i, session := range p.Accounts {
		list = append(list, &attacker{
			Client:  &kit.Client{Base: "http://" + p.Address, Token: session.AccessToken, HTTP: from(fmt.Sprintf("127.3.0.%d", i%addresses+1), 0)},
			Session: session, plan: p, stats: s,
		})
	}
	return list
}

// try sends a request and counts what became of it.
func (a *attacker) try(ctx context.Context, method, path string, in, out any) bool {
	_, err := a.Do(ctx, method, kit.API+path, in, out)
	return a.count(ctx, err)
}

func (a *attacker) count(ctx context.Context, err error) bool {
	var refused *kit.Refusal
	switch {
	case err == nil:
		a.stats.good.Add(1)
		return true
	case ctx.Err() != nil:
	case !errors.As(err, &refused):
		a.stats.gone.Add(1)
		pause(ctx, 100*time.Millisecond)
	case refused.Status == http.StatusTooManyRequests:
		a.stats.limited.Add(1)
		pause(ctx, 20*time.Millisecond)
	case refused.Status >= 500:
		a.stats.failed.Add(1)
		pause(ctx, 20*time.Millisecond)
	default:
		a.stats.refused.Add(1)
		pause(ctx, 20*time.Millisecond)
	}
	return false
}

// loop does something n times at once, again and again.
func loop(ctx context.Context, n int, f func(worker, round int)) {
	var all sync.WaitGroup
	for worker := range n {
		all.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				f(worker, round)
			}
		})
	}
	all.Wait()
}

// room is a new room of the attacker's, or "" if the attack is over.
func (a *attacker) room(ctx context.Context, request map[string]any) string {
	for ctx.Err() == nil {
		id, err := a.CreateRoom(ctx, request)
		if a.count(ctx, err) {
			return id
		}
		pause(ctx, time.Second)
	}
	return ""
}

// hold sends the beginning of a request from an address, waits until the server ends the connection, and begins again.
func hold(ctx context.Context, all []*attacker, n int, begin func(i int) string) {
	loop(ctx, n, func(worker, round int) {
		a := all[worker%len(all)]
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf("127.3.0.%d", worker%addresses+1))}, Timeout: 10 * time.Second}
		conn, err := d.DialContext(ctx, "tcp", a.plan.Address)
		if err != nil {
			pause(ctx, time.Second)
			return
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		defer conn.Close()
		if _, err := io.WriteString(conn, begin(worker)); err == nil {
			_, _ = io.Copy(io.Discard, conn) // until the server has had enough
		}
		a.stats.gone.Add(1)
		pause(ctx, time.Duration(500+rand.IntN(1000))*time.Millisecond)
	})
}

// bodies sends all but the last bytes of large bodies, without an account.
func bodies(ctx context.Context, all []*attacker) {
	const size = 1 << 20
	text := "POST /_matrix/client/v3/refresh HTTP/1.1\r\nHost: stoa\r\nContent-Type: application/json\r\nContent-Length: " + fmt.Sprint(size) +
		"\r\n\r\n{\"refresh_token\":\"" + strings.Repeat("a", size-100)
	hold(ctx, all, 1200, func(int) string { return text })
}

// halves sends half a request on many connections.
func halves(ctx context.Context, all []*attacker) {
	hold(ctx, all, 4150, func(i int) string {
		return "PUT " + kit.SendPath("!a:localhost", fmt.Sprint(i)) + " HTTP/1.1\r\nHost: stoa\r\nAuthorization: Bearer " +
			all[i%len(all)].Token + "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"body\":\""
	})
}

const large = 60_000 // bytes of an event

// answers asks for the largest answers there are, many at once, and reads them slowly.
func answers(ctx context.Context, all []*attacker) {
	a := all[0]
	keys := map[string]any{"user_id": a.UserID, "device_id": a.DeviceID, "algorithms": []string{}, "keys": map[string]string{"ed25519:" + a.DeviceID: strings.Repeat("a", 900_000)}}
	a.try(ctx, "POST", "/keys/upload", map[string]any{"device_keys": keys}, nil)
	room := a.room(ctx, map[string]any{})
	for i := range 300 {
		a.try(ctx, "PUT", "/rooms/"+url.PathEscape(room)+"/send/m.room.message/"+fmt.Sprint("a", i), kit.Message(strings.Repeat("b", large)), nil)
		a.try(ctx, "PUT", "/user/"+url.PathEscape(a.UserID)+"/account_data/"+fmt.Sprint("org.example.", i), map[string]string{"a": strings.Repeat("c", large)}, nil)
		if ctx.Err() != nil {
			return
		}
	}
	paths := []string{"/rooms/" + url.PathEscape(room) + "/messages?dir=b&limit=1000", "/sync", "/rooms/" + url.PathEscape(room) + "/state", "/keys/query"}
	loop(ctx, 24, func(worker, round int) {
		path := paths[(worker+round)%len(paths)]
		method, body := "GET", ""
		if path == "/keys/query" {
			method, body = "POST", `{"device_keys":{"`+a.UserID+`":[]}}`
		}
		req, err := http.NewRequestWithContext(ctx, method, a.Base+kit.API+path, strings.NewReader(body))
		if err != nil {
			return
		}
		req.Header.Set("Authorization", "Bearer "+a.Token)
		res, err := a.HTTP.Do(req)
		if err != nil {
			a.count(ctx, err)
			return
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			a.count(ctx, &kit.Refusal{Status: res.StatusCode})
			return
		}
		a.stats.good.Add(1)
		for buf := make([]byte, 16<<10); ; {
			if _, err := io.ReadFull(res.Body, buf); err != nil || !pause(ctx, 100*time.Millisecond) {
				return
			}
		}
	})
}

// states fills rooms with large state events, and reads them.
func states(ctx context.Context, all []*attacker) {
	a := all[1]
	var rooms []string
	for range 6 {
		rooms = append(rooms, a.room(ctx, map[string]any{}))
	}
	loop(ctx, len(rooms), func(worker, round int) {
		room := "/rooms/" + url.PathEscape(rooms[worker]) + "/state"
		a.try(ctx, "PUT", room+"/org.example.large/"+fmt.Sprint(round), map[string]string{"a": strings.Repeat("d", large)}, nil)
		if round%10 == 9 {
			a.try(ctx, "GET", room, nil, nil)
		}
	})
}

// floods sends as much as it is let: messages, messages to a device that does not listen, invites.
func floods(ctx context.Context, all []*attacker) {
	rooms := make([]string, 3)
	for i := range rooms {
		rooms[i] = all[2+i].room(ctx, map[string]any{})
	}
	loop(ctx, 12, func(worker, round int) {
		a := all[2+worker%3]
		switch worker % 4 {
		case 0:
			a.try(ctx, "PUT", "/sendToDevice/org.example.flood/"+fmt.Sprint(worker, "-", round), map[string]any{"messages": map[string]any{
				all[5].UserID: map[string]any{"*": map[string]string{"a": strings.Repeat("e", large)}}}}, nil)
		case 1:
			a.try(ctx, "POST", "/createRoom", map[string]any{"invite": []string{a.plan.Victim}}, nil)
		default:
			a.try(ctx, "PUT", "/rooms/"+url.PathEscape(rooms[worker%3])+"/send/m.room.message/"+fmt.Sprint("f", worker, "-", round), kit.Message(strings.Repeat("f", large)), nil)
		}
	})
}

// invites makes rooms with as many invites as fit into a body.
func invites(ctx context.Context, all []*attacker) {
	var list []string
	for i := range 25_000 {
		list = append(list, fmt.Sprintf("@person%d:localhost", i))
	}
	loop(ctx, 3, func(worker, round int) {
		all[6+worker].try(ctx, "POST", "/createRoom", map[string]any{"invite": list[:len(list)>>(round%5)]}, nil)
	})
}

// rules has messages judged by push rules that cost as much as possible.
func rules(ctx context.Context, all []*attacker) {
	owner, sender := all[9], all[10]
	room := sender.room(ctx, map[string]any{"preset": "public_chat"})
	_ = owner.count(ctx, owner.Join(ctx, room))
	for i := range 1000 {
		owner.try(ctx, "PUT", "/pushrules/global/content/"+fmt.Sprint("r", i), map[string]any{"actions": []string{"notify"}, "pattern": fmt.Sprintf("a*a*a*a*a*%d", i)}, nil)
		if ctx.Err() != nil {
			return
		}
	}
	loop(ctx, 4, func(worker, round int) {
		sender.try(ctx, "PUT", "/rooms/"+url.PathEscape(room)+"/send/m.room.message/"+fmt.Sprint("p", worker, "-", round), kit.Message(strings.Repeat("a ", large/2)), nil)
	})
}

// searches looks through the directory of users.
func searches(ctx context.Context, all []*attacker) {
	terms := []string{"person", "p", "e", "person1", "son99", "nobody of this name"}
	loop(ctx, 60, func(worker, round int) {
		all[11+worker%9].try(ctx, "POST", "/user_directory/search", map[string]any{"search_term": terms[(worker+round)%len(terms)], "limit": 50}, nil)
	})
}
