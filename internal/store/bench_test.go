package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

// benchRoom is one room with the state its writer keeps.
type benchRoom struct {
	room store.Room
	user store.UserNum
}

func benchRooms(tb testing.TB, s *store.Store, n int) []*benchRoom {
	tb.Helper()
	ctx := context.Background()
	users, err := s.InternUsers(ctx, func(string) bool { return true }, "@bench:stoa.test")
	if err != nil {
		tb.Fatal(err)
	}
	rooms := make([]*benchRoom, n)
	for i := range rooms {
		num, err := s.NextRoom(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		r := store.Room{Num: num, RoomID: fmt.Sprintf("!%d:stoa.test", num), Version: "12", Resident: true}
		c := store.NewChange()
		p := c.NewRoom(r)
		if _, err := s.Commit(ctx, c); err != nil {
			tb.Fatal(err)
		}
		r.Head = p.NewHead
		rooms[i] = &benchRoom{room: r, user: users[0]}
	}
	return rooms
}

var benchBytes = []byte(`{"auth_events":[],"content":{"body":"` + strings.Repeat("x", 560) + `"}}`)

// message is the change of one message: event, room, transaction ID, and by the
// commit queue the owner and the stream row.
func (b *benchRoom) message(ctx context.Context, s *store.Store) (*store.Change, error) {
	num, err := s.NextEvent(ctx)
	if err != nil {
		return nil, err
	}
	head, err := s.NextHead(ctx)
	if err != nil {
		return nil, err
	}
	c := store.NewChange()
	part := c.Room(b.room.Num, b.room.Head)
	slot := b.room.Slot + 1
	part.NewHead, part.First, part.Last = head, slot, slot
	eventID := fmt.Sprintf("$%020d-hash-of-the-event", uint64(num)*0x9e3779b97f4a7c15)
	roomdb.AddEvent(c, roomdb.Event{Room: b.room.Num, Place: roomdb.Place{Slot: slot}, Num: num, EventID: eventID,
		Type: "m.room.message", Sender: "@bench:stoa.test", Depth: int64(slot), OriginServerTS: 1, ReceivedTS: 1,
		StateBefore: roomdb.AfterSlot(slot - 1), Totals: []byte("t\x01\x02"), Edges: roomdb.Edges{Prev: []store.EventNum{num - 1}},
		TxnDevice: "DEVICE", TxnID: fmt.Sprint("m", num), Bytes: benchBytes})
	roomdb.AddTxn(c, roomdb.Txn{User: b.user, Device: "DEVICE", Path: "send", ID: fmt.Sprint("m", num), EventID: eventID, Room: b.room.Num, At: 1})
	b.room.Extremities = append(b.room.Extremities[:0], num)
	b.room.Depth++
	c.SetRoom(b.room)
	b.room.Head, b.room.Slot = head, slot
	return c, nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCommit commits messages, each goroutine into a room of its own and
// waiting for each. The metric cpu-µs/op is the process's CPU time a change.
func BenchmarkCommit(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		for _, writers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/%d", engine, writers), func(b *testing.B) {
				s := storetest.Open(b, engine)
				rooms := benchRooms(b, s, writers)
				ctx := context.Background()
				var left atomic.Int64
				left.Store(int64(b.N))
				cpu := cpuTime()
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				took := make([][]time.Duration, len(rooms))
				for i, room := range rooms {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							begin := time.Now()
							c, err := room.message(ctx, s)
							if err == nil {
								_, err = s.Commit(ctx, c)
							}
							took[i] = append(took[i], time.Since(begin))
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
				all := slices.Sorted(slices.Values(slices.Concat(took...)))
				b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
				b.ReportMetric(float64(all[len(all)-1].Microseconds()), "max-µs")
			})
		}
	}
}

// BenchmarkBare writes the same rows as BenchmarkCommit in transactions of 64
// messages from one goroutine, without a commit queue: the floor.
func BenchmarkBare(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			s := storetest.Open(b, engine)
			rooms := benchRooms(b, s, 64)
			ctx := context.Background()
			pos := s.Head() + 1
			changes := make([]*store.Change, len(rooms))
			cpu := cpuTime()
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += len(rooms) {
				for i, room := range rooms {
					var err error
					if changes[i], err = room.message(ctx, s); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.WriteBare(ctx, changes, pos); err != nil {
					b.Fatal(err)
				}
				pos += store.Position(len(rooms))
			}
			b.StopTimer()
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// BenchmarkRead reads in snapshots of their own: a room, an event, the newest 20
// events of a room.
func BenchmarkRead(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		s := storetest.Open(b, engine)
		ctx := context.Background()
		rooms := benchRooms(b, s, 64)
		for range 50 {
			var last []*store.Pending
			for _, room := range rooms {
				c, err := room.message(ctx, s)
				if err != nil {
					b.Fatal(err)
				}
				last = append(last, s.CommitAsync(c))
			}
			for _, p := range last {
				if _, err := p.Wait(ctx); err != nil {
					b.Fatal(err)
				}
			}
		}
		for _, bench := range []struct {
			name string
			read func(*store.Read, int) error
		}{
			{"nothing", func(*store.Read, int) error { return nil }},
			{"room", func(r *store.Read, i int) error { _, err := roomdb.RoomByNum(r, rooms[i%64].room.Num); return err }},
			{"event", func(r *store.Read, i int) error {
				_, err := roomdb.EventByNum(r, rooms[i%64].room.Extremities[0])
				return err
			}},
			{"latest 20", func(r *store.Read, i int) error {
				list, err := roomdb.TimelineBack(r, rooms[i%64].room.Num, roomdb.End, roomdb.Start, 20)
				if len(list) != 20 {
					return fmt.Errorf("%d events", len(list))
				}
				return err
			}},
		} {
			b.Run(engine+"/"+bench.name, func(b *testing.B) {
				b.ReportAllocs()
				var n atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						err := s.Read(ctx, func(r *store.Read) error { return bench.read(r, int(n.Add(1))) })
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
