package room_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

var errFault = errors.New("a fault that the test wants")

// faulty opens a store with one fault point, which fails at each n-th hit while it is
// armed.
func faulty(open func(...storetest.Option) *store.Store, point string, n int64) (s *store.Store, armed *atomic.Bool) {
	armed = new(atomic.Bool)
	faults := &store.Faults{}
	var hits atomic.Int64
	faults.Arm(point, func() error {
		if armed.Load() && hits.Add(1)%n == 0 {
			return errFault
		}
		return nil
	})
	return open(func(o *store.Options) { o.Faults = faults }), armed
}

// TestSend_keeps_its_word_whatever_fails: every acknowledged event is stored once, each
// transaction has one event, and the room can still be written.
func TestSend_keeps_its_word_whatever_fails(t *testing.T) {
	t.Parallel()
	for _, point := range []string{store.FaultBeforeCommit, store.FaultAfterCommit, store.FaultHeadMoved, store.FaultOutcomeUnknown} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
				s, armed := faulty(open, point, 5)
				h := newFixture(t, s)
				alice := user(t, "alice")
				roomID := h.create(alice)
				h.join(roomID, user(t, "bob"))
				armed.Store(true)
				acknowledged := h.sendAll(roomID, alice, 6, 15)
				armed.Store(false)
				h.say(roomID, alice, "and on")
				all := h.pages(alice, roomID, history.Backwards, 7)
				count := map[id.EventID]int{}
				for _, eventID := range all {
					count[eventID]++
				}
				for body, eventID := range acknowledged {
					if count[eventID] != 1 {
						t.Errorf("%q was acknowledged as %s and is there %d times", body, eventID, count[eventID])
					}
				}
				bodies := map[string]int{}
				for _, body := range h.bodies(alice, roomID) {
					if bodies[body]++; bodies[body] > 1 {
						t.Errorf("%q was said %d times", body, bodies[body])
					}
				}
			})
		})
	}
}

// sendAll lets several senders send messages with transaction IDs, and repeats each until
// it is acknowledged.
func (h *fixture) sendAll(roomID id.RoomID, sender id.UserID, senders, each int) map[string]id.EventID {
	var mu sync.Mutex // guards acknowledged
	acknowledged := map[string]id.EventID{}
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			for n := range each {
				body := fmt.Sprintf("%d/%d", i, n)
				draft := message(roomID, sender, body)
				draft.Txn = room.Txn{UserID: sender, DeviceID: "D", Path: "send", ID: body}
				for try := 0; ; try++ {
					eventID, err := h.Send(h.t.Context(), draft)
					if err == nil {
						mu.Lock()
						acknowledged[body] = eventID
						mu.Unlock()
						break
					}
					if e, ok := mxerr.As(err); ok && e.Status < 500 || try > 100 {
						h.t.Errorf("%s: %v", body, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return acknowledged
}

func TestTwo_writers_of_one_room_do_not_fork_it(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		first, second := newFixture(t, s), newFixture(t, s)
		alice := user(t, "alice")
		roomID := first.create(alice)
		second.clock.Add(50_000)
		var wg sync.WaitGroup
		for i, h := range []*fixture{first, second} {
			wg.Go(func() {
				for n := range 20 {
					for try := 0; ; try++ {
						_, err := h.Send(t.Context(), message(roomID, alice, fmt.Sprintf("%d/%d", i, n)))
						if err == nil {
							break
						}
						if e, ok := mxerr.As(err); !ok || e.Status != 503 || try > 100 {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		if got := len(first.bodies(alice, roomID)); got != 40 {
			t.Errorf("%d messages are there, want 40", got)
		}
		first.read(func(read *store.Read) error {
			row, err := roomdb.RoomByID(read, roomID.String())
			if err == nil && len(row.Extremities) != 1 {
				t.Errorf("forward extremities are %v", row.Extremities)
			}
			return err
		})
	})
}
