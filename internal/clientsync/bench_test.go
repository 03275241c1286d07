package clientsync_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/clientsync/synctest"
	"stoa/internal/store/storetest"
	"stoa/internal/token"
)

// BenchmarkFanOut is one message in a room of members who all wait; an operation is one delivery.
func BenchmarkFanOut(b *testing.B) {
	const members = 1000
	h := synctest.NewServer(b, storetest.SQLite(b), synctest.WithAll)
	alice := h.Client("alice")
	r := alice.Create()
	people := make([]*synctest.Client, members)
	for i := range people {
		people[i] = h.Client(fmt.Sprint("m", i)).Join(r)
		people[i].Sync(synctest.Lazily)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var delivered atomic.Int64
	var running sync.WaitGroup
	filter, err := h.Renderer.Filter(ctx, alice.Device, synctest.Lazily)
	alice.Must(err)
	for _, p := range people {
		running.Go(func() {
			req := clientsync.Request{Device: p.Device, Since: p.Since, Filter: filter, Timeout: 30 * time.Second, Presence: "online"}
			for {
				a, err := h.Renderer.Sync(ctx, &req)
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
	h.AwaitWaiting(members)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += members {
		alice.Say(r, "hello, everybody: this is a message of the usual length, give or take a few words")
		h.AwaitWaiting(members)
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
			h := synctest.NewServer(b, storetest.SQLite(b), synctest.WithAll, func(o *synctest.Options) {
				if size.cold {
					o.EventBytes, o.MemberBytes = 1, 1
				}
			})
			alice := h.Client("alice")
			h.Fill(alice, size.rooms, size.members)
			filter, err := h.Renderer.Filter(b.Context(), alice.Device,
				`{"room":{"timeline":{"limit":20,"unread_thread_notifications":true},"state":{"lazy_load_members":true}}}`)
			alice.Must(err)
			req := clientsync.Request{Device: alice.Device, Filter: filter, Presence: "online"}
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				a, err := h.Renderer.Sync(b.Context(), &req)
				alice.Must(err)
				b.SetBytes(int64(len(a.Body())))
				a.Release()
			}
		})
	}
}
