package room_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"stoa/internal/room"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// BenchmarkSend measures messages of 200 bytes: senders spread over rooms.
func BenchmarkSend(b *testing.B) {
	for _, c := range []struct{ senders, rooms int }{{1, 1}, {8, 1}, {8, 8}, {64, 100}} {
		b.Run(fmt.Sprintf("senders=%d/rooms=%d", c.senders, c.rooms), func(b *testing.B) {
			h := newFixture(b, storetest.SQLite(b))
			alice := user(b, "alice")
			rooms := make([]id.RoomID, c.rooms)
			senders := make([]id.UserID, c.senders)
			for i := range senders {
				senders[i] = user(b, fmt.Sprintf("user%d", i))
			}
			for i := range rooms {
				rooms[i] = h.create(alice)
				h.join(rooms[i], senders...)
			}
			body := string(make([]byte, 0, 200))
			for len(body) < 200 {
				body += "0123456789"
			}
			b.ReportAllocs()
			b.ResetTimer()
			var n atomic.Int64
			var wg sync.WaitGroup
			for i, sender := range senders {
				wg.Go(func() {
					for {
						k := n.Add(1)
						if k > int64(b.N) {
							return
						}
						draft := message(rooms[(int(k)+i)%len(rooms)], sender, body)
						if c.rooms == c.senders {
							draft.RoomID = rooms[i]
						}
						draft.Txn = room.Txn{UserID: sender, DeviceID: "D", Path: "send", ID: fmt.Sprint(k)}
						if _, err := h.Send(b.Context(), draft); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sends/s")
		})
	}
}

// BenchmarkJoin measures joins 1 to N of one room, 8 at a time, by users who are
// registered already.
func BenchmarkJoin(b *testing.B) {
	h := newFixture(b, storetest.SQLite(b))
	roomID := h.create(user(b, "alice"))
	users := make([]string, b.N)
	for i := range users {
		users[i] = user(b, fmt.Sprintf("user%d", i)).String()
	}
	if _, err := h.store.InternUsers(b.Context(), func(string) bool { return true }, users...); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var n atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				k := n.Add(1)
				if k > int64(b.N) {
					return
				}
				h.join(roomID, user(b, fmt.Sprintf("user%d", k-1)))
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "joins/s")
}
