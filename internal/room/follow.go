package room

import (
	"stoa/internal/store"
	"stoa/matrix/id"
)

// missedRows collects the rows of the stream that arrive while a room is being loaded:
// until then the number of the room is not known.
type missedRows struct{ rows []store.StreamRow }

// beginLoad collects the rows of the stream for a room that is about to be loaded, until
// endLoad.
func (rd *residents) beginLoad(r *room) *missedRows {
	if !rd.rooms.store.Shared() {
		return nil // no other instance writes
	}
	h := &missedRows{}
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rd.loading[r] = h
	return h
}

func (rd *residents) endLoad(r *room) {
	if !rd.rooms.store.Shared() {
		return
	}
	rd.mu.Lock()
	defer rd.mu.Unlock()
	delete(rd.loading, r)
}

// finishLoad records that the store has a room. The collected rows may be newer than the
// row that was read.
func (rd *residents) finishLoad(r *room, row store.Room, news *missedRows) {
	rd.mu.Lock()
	r.known = true
	moved := false
	if news != nil {
		if rd.byID[r.id] != nil && rd.byID[r.id].Value.(*room) == r {
			r.num = row.Num
			rd.byNum[row.Num] = r
		}
		for _, heard := range news.rows {
			moved = moved || heard.Room() == row.Num && (heard.Kind != store.KindTimeline || heard.Last > row.Slot)
		}
	}
	rd.mu.Unlock()
	if moved {
		r.inFlight.markOutdated()
	}
}

// FollowStream marks rooms that other instances have written, so that they are loaded
// again. A change in progress on such a room fails anyway, since the room's head has
// moved; this is for refusals, which never reach a commit.
func (rs *Rooms) FollowStream(rows []store.StreamRow) {
	type news struct {
		room *room
		row  store.StreamRow
	}
	var list []news
	rd := &rs.resident
	rd.mu.Lock()
	for _, row := range rows {
		if row.Kind != store.KindTimeline && row.Kind != store.KindRoomUpdate {
			continue
		}
		if r := rd.byNum[row.Room()]; r != nil {
			list = append(list, news{r, row})
		}
		for _, h := range rd.loading {
			h.rows = append(h.rows, row)
		}
	}
	rd.mu.Unlock()
	for _, n := range list {
		if n.row.Kind != store.KindTimeline || n.row.Last > n.room.inFlight.durableSlot() {
			n.room.inFlight.markOutdated()
		}
	}
}

// ForgetAll unloads all rooms and forgets all transaction IDs, because rows of the stream
// were missed.
func (rs *Rooms) ForgetAll() {
	rd := &rs.resident
	for _, r := range rd.all() {
		r.inFlight.markOutdated()
		rd.release(r)
	}
	rs.txns.Clear(0)
	rs.events.pdus.Clear(0)
}

// markOutdated records that another instance has written the room.
func (f *inFlight) markOutdated() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outdated = true
}

// FollowRules makes the rooms in memory reload the push rules and ignored users of a
// local user, which another instance has changed. Unlike PushRulesChanged it does not
// wait for the turns of rooms.
func (rs *Rooms) FollowRules(user id.UserID) {
	rd := &rs.resident
	for _, r := range rd.all() {
		r.inFlight.mu.Lock()
		if len(r.inFlight.stale) < staleLimit {
			r.inFlight.stale = append(r.inFlight.stale, user)
		} else {
			r.inFlight.outdated = true // too many: reload everything
		}
		r.inFlight.mu.Unlock()
		rd.release(r)
	}
}

// staleLimit bounds the users that a room remembers until its next change.
const staleLimit = 256

// takeStaleUsers takes over the users whose push rules have changed. The caller holds the
// turn.
func (r *room) takeStaleUsers() {
	f := &r.inFlight
	f.mu.Lock()
	stale := f.stale
	f.stale = nil
	f.mu.Unlock()
	if r.memberRules == nil {
		return // it will be built from the store
	}
	for _, user := range stale {
		r.stale[user] = struct{}{}
	}
}
