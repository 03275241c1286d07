package store_test

import (
	"math/rand/v2"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

// TestManyAtOnce: lists are answered in the order asked, whatever is missing or asked
// twice, also when they are longer than what is sent to PostgreSQL at once.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room := benchRooms(t, s, 1)[0]
		var first store.EventNum
		for range 20 {
			c, err := room.message(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if first == 0 {
				first = room.room.Extremities[0]
			}
			if _, err := s.Commit(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		last := room.room.Extremities[0]
		random := rand.New(rand.NewPCG(3, 4))
		for _, n := range []int{0, 1, 2, 600} {
			asked := make([]store.EventNum, n)
			for i := range asked {
				asked[i] = first - 5 + store.EventNum(random.Int64N(int64(last-first)+10))
			}
			inSnapshot(t, s, func(r *store.Read) error { return checkMany(t, r, asked, first, last) })
		}
	})
}

func checkMany(t *testing.T, r *store.Read, asked []store.EventNum, first, last store.EventNum) error {
	ids, err := roomdb.EventIDs(r, asked)
	if err != nil {
		return err
	}
	nums, err := roomdb.EventNums(r, ids)
	if err != nil {
		return err
	}
	byNum, err := roomdb.EventsByNum(r, asked)
	if err != nil {
		return err
	}
	byID, err := roomdb.EventsByID(r, ids)
	if err != nil {
		return err
	}
	if len(ids) != len(asked) || len(nums) != len(asked) {
		t.Fatalf("%d IDs and %d numbers of %d", len(ids), len(nums), len(asked))
	}
	at := 0
	for i, num := range asked {
		if num < first || num > last {
			if ids[i] != "" || nums[i] != 0 {
				t.Fatalf("event %d, which nobody sent, is %q", num, ids[i])
			}
			continue
		}
		if nums[i] != num || byNum[at].Num != num || byID[at].Num != num || byNum[at].EventID != ids[i] {
			t.Fatalf("asked for %d: got %d, %d, %d", num, nums[i], byNum[at].Num, byID[at].Num)
		}
		at++
	}
	if len(byNum) != at || len(byID) != at {
		t.Fatalf("%d and %d events, want %d", len(byNum), len(byID), at)
	}
	return nil
}

// BenchmarkEventsByNum reads 100 events at once.
func BenchmarkEventsByNum(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			s := storetest.Open(b, engine)
			room := benchRooms(b, s, 1)[0]
			var asked []store.EventNum
			for range 100 {
				c, err := room.message(b.Context(), s)
				if err != nil {
					b.Fatal(err)
				}
				asked = append(asked, room.room.Extremities[0])
				if _, err := s.Commit(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Read(b.Context(), func(r *store.Read) error { _, err := roomdb.EventsByNum(r, asked); return err }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
