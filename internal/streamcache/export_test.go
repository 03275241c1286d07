package streamcache

import (
	"time"

	"stoa/internal/store"
	"stoa/matrix/id"
)

// LastPoll makes the cache follow others as on PostgreSQL, and returns when it read the stream to its end.
func (h *Cache) LastPoll() time.Time {
	h.follows.Store(true)
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastPoll
}

// Passed is the newest row that was not read because nobody in memory could see it.
func (h *Cache) Skipped() store.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.skipped
}

// KnowsPresence says whether memory has all that a user may be told of presence after a position.
func (h *Cache) KnowsPresence(viewer store.UserNum, after store.Position) bool {
	_, ask, known := h.PresenceChanges(viewer, after, h.Head(), 500)
	return known && len(ask) == 0
}

// NextTick is the tick after the last.
func (h *Cache) NextTick() {
	h.mu.Lock()
	next := time.Unix(0, (h.timers.tick+1)*int64(timerTick))
	h.mu.Unlock()
	h.Tick(next)
}

// SetFanOut changes how many waiting requests of a room are woken at a time, and up to how many of them typing is told at once
// and merged news wakes.
func (h *Cache) SetFanOut(batch, promptRoom, mergeRoom int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limits = fanOutLimits{batch, promptRoom, mergeRoom}
}

// Backlog counts the messages of a room after the first undelivered one; -1 if all are delivered.
func (h *Cache) Backlog(roomID id.RoomID) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b := h.backlogs[roomID]; b != nil {
		return b.after
	}
	return -1
}

// BacklogWindow is how many messages of a room may be undelivered.
const BacklogWindow = backlogWindow

// KnowsMember says whether somebody's membership event is in memory.
func (h *Cache) KnowsMember(room store.RoomNum, userID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.members.get(member{room, userID}) != nil
}
