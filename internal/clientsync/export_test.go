package clientsync

import (
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"stoa/internal/store"
	"stoa/matrix/id"
)

// Wakeups counts the waits that have ended.
func (h *Hub) Wakeups() int {
	var m dto.Metric
	if err := h.metrics.wakeups.Write(&m); err != nil {
		panic(err)
	}
	return int(m.GetCounter().GetValue())
}

// AwaitWaiting waits until a number of requests wait.
func (h *Hub) AwaitWaiting(t testing.TB, n int) {
	t.Helper()
	for range 5000 {
		var m dto.Metric
		if err := h.metrics.waiting.Write(&m); err != nil {
			t.Fatal(err)
		}
		if int(m.GetGauge().GetValue()) == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("there are never %d requests that wait", n)
}

// Reset makes the hub forget everything, so that old tokens are answered from the store.
func (h *Hub) Reset() { h.reset(h.Head()) }

// HeardLast has the hub follow others as on PostgreSQL, and is when it read the stream to its end.
func (h *Hub) HeardLast() time.Time {
	h.follows.Store(true)
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard
}

// Passed is the newest row that was not read because nobody in memory could see it.
func (h *Hub) Passed() store.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.passed
}

// KnowsPresence says whether memory has all that a user may be told of presence after a position.
func (h *Hub) KnowsPresence(viewer store.UserNum, after store.Position) bool {
	_, ask, known := h.PresenceChanges(viewer, after, h.Head(), 500)
	return known && len(ask) == 0
}

// NextTick is the tick after the last.
func (h *Hub) NextTick() {
	h.mu.Lock()
	next := time.Unix(0, (h.wheel.tick+1)*int64(wheelTick))
	h.mu.Unlock()
	h.Tick(next)
}

// SetFanOut changes how many waiting requests of a room are woken at a time, and up to how many of them typing is told at once
// and merged news wakes.
func (h *Hub) SetFanOut(batch, promptRoom, mergeRoom int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limits = fanOutLimits{batch, promptRoom, mergeRoom}
}

// Delivery is closed when what was said in a room until now is being delivered; nil if it is.
func (h *Hub) Delivery(roomID id.RoomID) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.deliveries[roomID]
	switch {
	case d == nil:
		return nil
	case d.next != nil:
		d = d.next
	}
	return d.begun
}

// FollowedHanded counts the groups of others that were applied as they were handed over.
func (h *Hub) FollowedHanded() int {
	var m dto.Metric
	if err := h.metrics.followed.WithLabelValues("handed").Write(&m); err != nil {
		panic(err)
	}
	return int(m.GetCounter().GetValue())
}

// KnowsMember says whether somebody's membership event is in memory.
func (h *Hub) KnowsMember(room store.RoomNum, userID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.members.get(member{room, userID}) != nil
}
