package clientsync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/room"
	"stoa/internal/store/storetest"
	"stoa/internal/token"
	"stoa/matrix/id"
)

// BenchmarkFanOut is one message in a room of members who all wait; an operation is one delivery.
func BenchmarkFanOut(b *testing.B) {
	const members = 1000
	h := newHouse(b, storetest.SQLite(b), withAll)
	alice := h.person("alice")
	r := alice.create()
	people := make([]*person, members)
	for i := range people {
		people[i] = h.person(fmt.Sprint("m", i)).join(r)
		people[i].sync(lazily)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var delivered atomic.Int64
	var running sync.WaitGroup
	filter, err := h.renderer.Filter(ctx, alice.Device, lazily)
	alice.must(err)
	for _, p := range people {
		running.Go(func() {
			req := clientsync.Request{Device: p.Device, Since: p.since, Filter: filter, Timeout: 30 * time.Second, Presence: "online"}
			for {
				a, err := h.renderer.Sync(ctx, &req)
				if err != nil {
					return
				}
				delivered.Add(1)
				since, err := token.ParseStream(nextBatch(a.Body()))
				if err != nil {
					b.Error(err)
					return
				}
				req.Since = &since
				a.Release()
			}
		})
	}
	h.cache.AwaitWaiting(b, members)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += members {
		alice.say(r, "hello, everybody: this is a message of the usual length, give or take a few words")
		h.cache.AwaitWaiting(b, members)
	}
	b.StopTimer()
	cancel()
	running.Wait()
}

func nextBatch(body []byte) string {
	const key = `"next_batch":"`
	for i := len(body) - len(key); i >= 0; i-- {
		if string(body[i:i+len(key)]) == key {
			return string(body[i+len(key) : len(body)-2])
		}
	}
	return ""
}

// BenchmarkInitialSync is the first sync of a user with many rooms of many members.
func BenchmarkInitialSync(b *testing.B) {
	for _, size := range []struct {
		rooms, members int
		cold           bool // nothing is in memory
	}{{50, 20, false}, {50, 20, true}, {300, 300, false}, {300, 300, true}} {
		b.Run(fmt.Sprintf("rooms=%d/members=%d/cold=%v", size.rooms, size.members, size.cold), func(b *testing.B) {
			h := newHouse(b, storetest.SQLite(b), withAll, func(o *options) {
				if size.cold {
					o.EventBytes, o.Members = 1, 1
				}
			})
			alice := h.person("alice")
			h.fill(alice, size.rooms, size.members)
			filter, err := h.renderer.Filter(b.Context(), alice.Device,
				`{"room":{"timeline":{"limit":20,"unread_thread_notifications":true},"state":{"lazy_load_members":true}}}`)
			alice.must(err)
			req := clientsync.Request{Device: alice.Device, Filter: filter, Presence: "online"}
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				a, err := h.renderer.Sync(b.Context(), &req)
				alice.must(err)
				b.SetBytes(int64(len(a.Body())))
				a.Release()
			}
		})
	}
}

// fill makes rooms of members who have said a few things.
func (h *house) fill(owner *person, rooms, members int) {
	h.t.Helper()
	people := make([]id.UserID, members)
	for i := range people {
		people[i] = h.person(fmt.Sprint("member", i)).UserID
	}
	for i := range rooms {
		r := owner.create(func(c *room.CreateRequest) { c.Name = fmt.Sprint("Room ", i) })
		var drafts []room.Draft
		for _, p := range people {
			key := p.String()
			drafts = append(drafts, room.Draft{RoomID: r, Sender: p, Type: "m.room.member", StateKey: &key,
				Content: json.RawMessage(fmt.Sprintf(`{"membership":"join","displayname":"Member %s"}`, p.Localpart()))})
		}
		for n := range 30 {
			drafts = append(drafts, room.Draft{RoomID: r, Sender: people[(i+n)%members], Type: "m.room.message",
				Content: json.RawMessage(fmt.Sprintf(`{"msgtype":"m.text","body":"message %d of the usual length, give or take a few words and a smile"}`, n))})
		}
		_, err := h.SendMany(h.t.Context(), r, drafts)
		owner.must(err)
	}
}
